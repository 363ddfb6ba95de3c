// A row of the table. It writes only what differs, into text nodes, and never reads the layout.

import { make } from "./elements.js";
import { attemptOf, count, dayAndTime, eventWords, failure, label, span, timeOfDay } from "./words.js";
import * as place from "./place.js";

const CELLS = ["id", "state", "attempt", "age", "packets", "missing", "late", "last"];
const NUMBERS = new Set(["age", "packets", "missing", "late"]);

export class Row {
  element;
  /** Whether it was last shown among the calls that have ended. */
  isEnded = null;

  #cells = {};
  #texts = {};
  #chip = make("span", { class: "chip" });
  #link;
  #at = make("time");
  #word = make("span");

  constructor(callId) {
    this.#link = make("a", { href: place.urlOf({ ...place.read(), callId }), "data-call": callId });
    for (const name of CELLS) {
      this.#texts[name] = document.createTextNode("");
      this.#cells[name] = make("td", { role: "cell", class: NUMBERS.has(name) ? `${name} number` : name });
    }
    this.#texts.word = document.createTextNode("");
    this.#texts.at = document.createTextNode("");
    this.#fill(callId);
    this.element = make("tr", { role: "row", "data-id": callId }, ...Object.values(this.#cells));
  }

  /** Show *call* as of *at*, in milliseconds of the server's clock. */
  show(call, maximum, at) {
    this.isEnded = call.finished_ms !== null;
    if (this.#chip.dataset.state !== call.state) this.#chip.dataset.state = call.state;
    this.#write("state", label(call.state));
    this.#write("packets", count(call.packets));
    this.#write("missing", count(call.missing_count));
    this.#write("late", count(call.late));
    this.#mark("missing", call.missing_count > 0);
    this.#mark("late", call.late > 0);
    this.#showLast(call);
    this.tick(call, maximum, at);
  }

  /** Show what goes on by itself. */
  tick(call, maximum, at) {
    this.#write("age", call.started_ms === null ? "–" : span((call.finished_ms ?? at) - call.started_ms));
    this.#write("attempt", attemptOf(call, maximum, at));
    this.#mark("attempt", call.state === "PROCESSING_AI" && !call.attempt_running && call.attempt > 0);
  }

  focus() {
    this.#link.focus({ preventScroll: true });
  }

  #fill(callId) {
    const { id, state, last } = this.#cells;
    this.#texts.id.data = callId;
    this.#link.append(this.#texts.id);
    this.#link.title = callId;
    id.append(this.#link);
    this.#chip.append(this.#texts.state);
    state.append(this.#chip);
    this.#word.append(this.#texts.word);
    this.#at.append(this.#texts.at);
    last.append(this.#word, " ", this.#at);
    for (const name of ["attempt", "age", "packets", "missing", "late"]) this.#cells[name].append(this.#texts[name]);
  }

  #showLast(call) {
    const { words, at } = lastOf(call);
    this.#write("word", words);
    const time = Date.parse(at ?? "");
    if (Number.isNaN(time) || this.#at.dateTime === at) return;
    this.#at.dateTime = at;
    this.#at.title = dayAndTime(time);
    this.#write("at", timeOfDay(time));
  }

  #write(name, text) {
    const node = this.#texts[name];
    if (node.data !== text) node.data = text;
  }

  #mark(name, isNoticed) {
    const { classList } = this.#cells[name];
    if (classList.contains("noticed") !== isNoticed) classList.toggle("noticed", isNoticed);
  }
}

/** The last event, or what the times of a call that no event was seen of tell about it. */
function lastOf(call) {
  const event = call.last_event;
  if (event) return { words: eventWords(event), at: event.at };
  if (call.finished_at) {
    return { words: call.state === "FAILED" ? failure(call.end_reason) : "archived", at: call.finished_at };
  }
  if (call.completed_at) return { words: "completed", at: call.completed_at };
  return { words: "started", at: call.started_at };
}
