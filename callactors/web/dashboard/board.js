// The board: tiles, filters, the live table, and what is below it.

import { Problem, get } from "./api.js";
import { learn } from "./clock.js";
import { find, setText } from "./elements.js";
import { firstSteps, loading, nothingMatches } from "./empty.js";
import { Filters, matcher } from "./filters.js";
import { Older } from "./older.js";
import { Poll } from "./poll.js";
import { RetryAll } from "./retry_all.js";
import { Table } from "./table.js";
import { Tiles } from "./tiles.js";
import { count, counted } from "./words.js";

const STATS_INTERVAL = 2_000;
const COUNTS_INTERVAL = 5_000;
const FIRST_COUNTS = 500; // what came into sight without counts gets them sooner
const AT_ONCE = 100; // ids that GET v1/calls takes
const PAUSES = "The AI step pauses: its provider keeps failing; calls wait.";

export class Board {
  #calls;
  #table;
  #older;
  #filters;
  #tiles = new Tiles(find("tiles"));
  #retryAll = new RetryAll();
  #wanted = { states: new Set(), text: "" };
  #asked = ""; // the text that was searched beyond the known calls
  #emptiness = "";
  #stats = new Poll(() => this.#loadStats(), STATS_INTERVAL);
  #counts = new Poll(() => this.#loadCounts(), COUNTS_INTERVAL);

  constructor(calls, { onFilter }) {
    this.#calls = calls;
    this.#table = new Table(calls, find("live"), () => this.#countSoon());
    this.#older = new Older(calls, find("older"), () => this.#showBelow());
    const parts = { form: find("filters"), choices: find("states"), search: find("search") };
    this.#filters = new Filters({ ...parts, onChange: onFilter });
    find("load-older").addEventListener("click", () => this.#older.load());
  }

  get isWaiting() {
    return this.#table.isWaiting;
  }

  clearSearch() {
    this.#filters.clearSearch();
  }

  /** Ask for figures and counts from time to time, or leave it. */
  wake(isAwake) {
    if (isAwake) this.#stats.start();
    else this.#stats.stop();
    if (isAwake) this.#counts.start();
    else this.#counts.stop();
  }

  /** Show calls in *states* (none: all) with *text* in their id. */
  filter({ states, text }) {
    this.#filters.set({ states, text });
    if (text === this.#wanted.text && same(states, this.#wanted.states)) return;
    this.#wanted = { states, text };
    this.#asked = "";
    this.#table.filter(matcher(this.#wanted));
    this.#older.reset(states, text);
  }

  /** Show nothing of calls any more, now and not with the next frame. */
  clear() {
    this.#tiles.clear();
    find("tiles").hidden = false;
    find("figures-word").hidden = true;
    this.#table.clear();
    this.#older.reset(this.#wanted.states, this.#wanted.text);
    this.#asked = "";
    this.#retryAll.clear();
    this.#filters.number({});
    this.#showBelow();
  }

  render(time, maximum) {
    if (!this.#table.render(time, maximum)) return;
    this.#older.yieldTo(this.#calls);
    this.#filters.number(this.#table.counts);
    this.#offerRetry();
    this.#showBelow();
    this.#countSoon();
    this.#search();
  }

  /** Say that the AI step pauses, until its *state* is open. */
  showStep(state) {
    setText(find("ai-step"), state === "open" ? "" : PAUSES);
  }

  #offerRetry() {
    if (!this.#calls.isLoaded) return;
    this.#retryAll.offer({ isChosen: this.#wanted.states.has("FAILED"), known: this.#table.counts.FAILED ?? 0 });
  }

  #countSoon() {
    if (this.#table.outdated(1).isUrgent) this.#counts.soon(FIRST_COUNTS);
  }

  tick(maximum) {
    this.#table.tick(maximum);
  }

  /** Nothing known matches the text: ask the server. */
  #search() {
    const { text } = this.#wanted;
    if (!text || this.#table.matching || this.#asked === text || !this.#calls.isLoaded) return;
    this.#asked = text;
    this.#older.load();
  }

  #showBelow() {
    const { matching, left } = this.#table;
    const { isAsking, isAtEnd, problem } = this.#older.status;
    find("more").hidden = !left && !this.#calls.isCut;
    const unknown = this.#calls.isCut ? " The server has more than this page keeps." : "";
    setText(find("more"), (left ? `and ${count(left)} more: narrow them by state or text.` : "") + unknown);
    setText(find("older-word"), problem || (isAsking ? "Looking…" : this.#olderWord(isAtEnd)));
    const isEmpty = !matching && !this.#older.size && !isAsking;
    find("load-older").hidden = isAtEnd || this.#older.isFull || (isEmpty && !this.#calls.size);
    find("load-older").disabled = isAsking;
    this.#showEmpty(isEmpty);
  }

  #olderWord(isAtEnd) {
    const { size } = this.#older;
    if (this.#older.isFull) return `${counted(size, "older call")} shown: search for others.`;
    if (isAtEnd && size) return "That is all.";
    return isAtEnd && !this.#wanted.text && this.#calls.size ? "There are no older calls." : "";
  }

  #showEmpty(isEmpty) {
    const isFiltered = this.#wanted.states.size > 0 || this.#wanted.text !== "";
    const kind = !isEmpty ? "" : !this.#calls.isLoaded ? "loading" : isFiltered ? "filtered" : "first";
    if (kind === this.#emptiness) return;
    this.#emptiness = kind;
    find("empty").hidden = kind === "";
    const made = { loading, filtered: () => nothingMatches(() => this.#filters.clear()), first: firstSteps }[kind];
    find("empty").replaceChildren(...(made?.() ?? []));
  }

  async #loadStats() {
    const sentAt = Date.now();
    try {
      const stats = await get("v1/stats");
      learn(stats.at, sentAt);
      this.#tiles.show(stats);
    } catch (problem) {
      this.#fail(problem);
      this.#tiles.age();
      if (problem.isOfOtherCalls) this.#hideFigures(problem);
    }
  }

  async #loadCounts() {
    const { ids } = this.#table.outdated(AT_ONCE);
    if (!ids.length) return;
    try {
      const { calls } = await get("v1/calls", ids.map((callId) => ["call_id", callId]));
      for (const summary of calls) this.#calls.refresh(summary);
    } catch (problem) {
      this.#fail(problem); // the counts stay as they were
    }
  }

  /** The figures are of all calls: a key for some of them does not open them. */
  #hideFigures(problem) {
    this.#stats.stop();
    setText(find("figures-word"), `No figures: ${problem.message}.`);
    find("figures-word").hidden = false;
    find("tiles").hidden = true;
  }

  #fail(problem) {
    if (!(problem instanceof Problem)) throw problem;
  }
}

function same(a, b) {
  return a.size === b.size && [...a].every((item) => b.has(item));
}
