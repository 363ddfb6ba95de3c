// Calls that have left the live table, or were never in it: pages of GET v1/calls, below the live rows.

import { get } from "./api.js";
import { now } from "./clock.js";
import { Row } from "./row.js";

const PAGE = 100;
const LIMIT = 2_000;
const PAGES_AT_ONCE = 8; // the first pages may hold nothing but calls that are in the table already
const CALL_ID = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$/; // other text is in no id: the server need not be asked
const ENDED = ["ARCHIVED", "FAILED"];

export class Older {
  #calls;
  #body;
  #rows = new Map();
  #cursor = null;
  #states = ENDED;
  #text = "";
  #round = 0; // answers to earlier questions are dropped
  #onChange;

  /** How it stands: `isAsking`, `isAtEnd`, and what went wrong, if anything, as `problem`. */
  status = { isAsking: false, isAtEnd: false, problem: "" };

  constructor(calls, body, onChange) {
    this.#calls = calls;
    this.#body = body;
    this.#onChange = onChange;
  }

  get size() {
    return this.#rows.size;
  }

  get isFull() {
    return this.#rows.size >= LIMIT;
  }

  /** Forget what was loaded, and look for calls in *states* (none: all that have ended) with *text*. */
  reset(states, text) {
    this.#round += 1;
    this.#cursor = null;
    this.#text = text;
    this.#states = text ? [...states] : ENDED.filter((state) => !states.size || states.has(state));
    this.#rows.clear();
    this.#body.replaceChildren();
    this.#tell({ isAsking: false, isAtEnd: text ? !CALL_ID.test(text) : !this.#states.length, problem: "" });
  }

  /** Load until something comes that is not shown yet, or there is no more. */
  async load() {
    if (this.status.isAsking || this.status.isAtEnd || this.isFull) return;
    const round = this.#round;
    this.#tell({ isAsking: true, isAtEnd: false, problem: "" });
    try {
      for (let pages = 0, added = 0; pages < PAGES_AT_ONCE && !added; pages += 1) {
        const page = await get("v1/calls", this.#parameters());
        if (round !== this.#round) return;
        added = this.#add(page.calls);
        this.#cursor = page.cursor;
        if (page.cursor === null) break;
      }
      this.#tell({ isAsking: false, isAtEnd: this.#cursor === null, problem: "" });
    } catch (problem) {
      if (round !== this.#round) return;
      const { isOfOtherCalls: isAtEnd, message } = problem;
      this.#tell({ isAsking: false, isAtEnd, problem: isAtEnd ? `Not searched on the server: ${message}.` : message });
    }
  }

  /** Give up rows of calls that the live table has by now. */
  yieldTo(calls) {
    for (const [callId, row] of this.#rows) {
      if (!calls.has(callId)) continue;
      row.element.remove();
      this.#rows.delete(callId);
    }
  }

  #parameters() {
    const parameters = [["limit", PAGE], ...this.#states.map((state) => ["state", state])];
    parameters.push(...(this.#text ? [["q", this.#text]] : [["sort", "transition"]]));
    if (this.#cursor !== null) parameters.push(["cursor", this.#cursor]);
    return parameters;
  }

  #add(summaries) {
    const fresh = summaries.filter(({ call_id: id }) => !this.#calls.has(id) && !this.#rows.has(id));
    for (const summary of fresh.slice(0, LIMIT - this.#rows.size)) {
      const row = new Row(summary.call_id);
      const [started, finished] = [summary.started_at, summary.finished_at].map((at) => (at ? Date.parse(at) : null));
      row.show({ ...summary, started_ms: started, finished_ms: finished }, null, now());
      this.#rows.set(summary.call_id, row);
      this.#body.append(row.element);
    }
    return fresh.length;
  }

  #tell(status) {
    this.status = status;
    this.#onChange();
  }
}
