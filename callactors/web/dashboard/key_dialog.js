// The dialog that asks for a key, tries it, and says what is wrong with it.

import { Problem, tryKey } from "./api.js";
import { find, setText } from "./elements.js";
import { isSendable } from "./key.js";

const EMPTY = "Enter a key.";
const NO_KEY = "This is not a key: keys have no spaces and only plain letters, digits and signs.";
const WRONG = "This key is wrong, or it has ended.";
const LACKS_SCOPE = "This key is not for supervising: it lacks the scope supervise.";

export class KeyDialog {
  #dialog = find("key-dialog");
  #field = find("key");
  #round = 0; // what was tried before the dialog was closed does not count any more
  #isTrying = false;
  #onKey;
  #onLeave;

  /** *onKey* gets a key that is right; *onLeave* is called when the dialog is closed without one. */
  constructor({ onKey, onLeave }) {
    this.#onKey = onKey;
    this.#onLeave = onLeave;
    find("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#try();
    });
    find("key-show").addEventListener("click", () => this.#reveal(this.#field.type === "password"));
    find("key-cancel").addEventListener("click", () => this.#dialog.close());
    this.#dialog.addEventListener("close", () => this.#closed());
  }

  /** Ask for a key, and say why. */
  open(reason) {
    setText(find("key-reason"), reason);
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#field.focus();
  }

  close() {
    if (this.#dialog.open) this.#dialog.close();
  }

  async #try() {
    const text = this.#field.value.trim();
    if (this.#isTrying) return;
    if (!text || !isSendable(text)) return void this.#say(text ? NO_KEY : EMPTY);
    const round = this.#round;
    this.#setTrying(true);
    const problem = await whatIsWrong(text);
    if (round !== this.#round) return;
    this.#setTrying(false);
    if (problem === null) return void this.#onKey(text);
    if (problem.needsKey) this.#empty();
    this.#say(wordsOf(problem));
  }

  #setTrying(value) {
    this.#isTrying = value;
    this.#field.readOnly = value;
    find("key-use").setAttribute("aria-disabled", String(value));
    setText(find("key-use"), value ? "Trying…" : "Use key");
    if (value) setText(find("key-problem"), "");
  }

  #say(text) {
    setText(find("key-problem"), text);
    this.#field.setAttribute("aria-invalid", String(text !== ""));
    this.#field.focus();
  }

  #reveal(isShown) {
    this.#field.type = isShown ? "text" : "password";
    setText(find("key-show"), isShown ? "Hide key" : "Show key");
  }

  #empty() {
    this.#field.value = "";
    this.#reveal(false);
  }

  #closed() {
    this.#round += 1;
    this.#empty();
    this.#setTrying(false);
    setText(find("key-problem"), "");
    this.#field.removeAttribute("aria-invalid");
    this.#onLeave();
  }
}

/** Nothing, as null, or the Problem. */
async function whatIsWrong(text) {
  try {
    await tryKey(text);
    return null;
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    return problem;
  }
}

function wordsOf(problem) {
  if (!problem.needsKey) return `The key could not be tried. ${problem.message}`;
  return problem.status === 401 ? WRONG : LACKS_SCOPE;
}
