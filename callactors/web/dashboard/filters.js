// What the board shows: states, and text in the call id.

import { make, setText } from "./elements.js";
import { STATES, count, label } from "./words.js";

const TYPING = 200;

export class Filters {
  #choices = new Map();
  #search;
  #onChange;
  #timer = 0;

  constructor({ form, choices, search, onChange }) {
    this.#search = search;
    this.#onChange = onChange;
    for (const state of STATES) choices.append(this.#choice(state));
    search.addEventListener("input", () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#tell(), TYPING);
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#tell();
    });
  }

  /** Show what a place in the history says. */
  set({ states, text }) {
    for (const [state, { box }] of this.#choices) box.checked = states.has(state);
    if (this.#search.value.trim() !== text) this.#search.value = text;
  }

  /** Show how many known calls are in each state. */
  number(counts) {
    for (const [state, { number }] of this.#choices) setText(number, count(counts[state] ?? 0));
  }

  clear() {
    this.set({ states: new Set(), text: "" });
    this.#tell();
  }

  clearSearch() {
    this.#search.value = "";
    this.#tell();
  }

  #choice(state) {
    const box = make("input", { type: "checkbox", name: "state", value: state });
    const number = make("span", { class: "count" }, "0");
    box.addEventListener("change", () => this.#tell());
    this.#choices.set(state, { box, number });
    return make("label", { class: "choice", "data-state": state }, box, make("span", {}, label(state)), number);
  }

  #tell() {
    clearTimeout(this.#timer);
    const states = STATES.filter((state) => this.#choices.get(state).box.checked);
    this.#onChange({ states: new Set(states), text: this.#search.value.trim() });
  }
}

/** A function that says whether a call is to be shown. */
export function matcher({ states, text }) {
  const wanted = text.toLowerCase();
  return (call) =>
    (!states.size || states.has(call.state)) && (!wanted || call.call_id.toLowerCase().includes(wanted));
}
