// Retrying every failed call: counted first, then page by page, until it is done or stopped.

import { get, post } from "./api.js";
import { ask, dismiss } from "./confirm.js";
import { find, setText } from "./elements.js";
import { refusalOf } from "./refusals.js";
import { count, counted } from "./words.js";

const COUNT_PAGE = 1_000;
const MOST_COUNTED = 10_000;
const PAGE = 100;
const PATIENCE = 60_000; // a page is many calls, each stored by itself

export class RetryAll {
  #run = null; // what is under way
  #offer = { isChosen: false, known: 0 };
  #isKnownToServer = null; // whether the server has a failed call, if it was asked
  #asking = 0; // answers to earlier questions are dropped

  constructor() {
    find("retry-all").addEventListener("click", () => this.#begin());
    find("retry-all-stop").addEventListener("click", () => this.#stop());
  }

  /** Offer it if *isChosen*, as long as a call has failed: one of the *known* ones, or one of the server's. */
  offer({ isChosen, known }) {
    if (isChosen !== this.#offer.isChosen) this.#forget();
    this.#offer = { isChosen, known };
    if (isChosen && !known && this.#isKnownToServer === null) this.#askServer();
    this.#show();
  }

  /** Stop, and show nothing of it. */
  clear() {
    if (this.#run) this.#run.isStopped = true;
    this.#run = null;
    this.#offer = { isChosen: false, known: 0 };
    dismiss();
    this.#forget();
    this.#show();
  }

  async #begin() {
    if (this.#run) return;
    const run = (this.#run = { isStopped: false, matched: 0, retried: 0 });
    this.#say("");
    const words = await this.#go(run);
    if (run !== this.#run) return;
    this.#run = null;
    this.#isKnownToServer = null;
    this.#say(words);
    this.offer(this.#offer);
  }

  /** Count, ask and retry. Returns what came of it. */
  async #go(run) {
    try {
      const found = await this.#count(run);
      if (run.isStopped) return "Stopped: no call was retried.";
      if (!found.matched) return "No call is Failed any more.";
      if (!(await ask(questionOf(found)))) return "";
      await this.#retry(run, found);
      return summaryOf(run);
    } catch (problem) {
      return `${run.matched ? `${summaryOf(run)} Then it ended. ` : ""}${refusalOf(problem)}`;
    }
  }

  async #count(run) {
    const found = { matched: 0, isMore: false };
    this.#progress("Counting…");
    let cursor;
    while (cursor !== null && !run.isStopped && !found.isMore) {
      const page = await post("v1/calls/retry", [["dry_run", "true"], ...pageAt(COUNT_PAGE, cursor)], PATIENCE);
      cursor = page.cursor;
      found.matched += page.matched;
      found.isMore = cursor !== null && found.matched >= MOST_COUNTED;
      if (run === this.#run) this.#progress(`Counting… ${count(found.matched)}`);
    }
    return found;
  }

  async #retry(run, found) {
    let cursor;
    while (cursor !== null && !run.isStopped) {
      if (run === this.#run) this.#progress(`Retrying… ${count(run.matched)} of ${totalOf(found)}`);
      const page = await post("v1/calls/retry", pageAt(PAGE, cursor), PATIENCE);
      cursor = page.cursor;
      run.matched += page.matched;
      run.retried += page.retried;
    }
    run.isStopped &&= cursor !== null;
  }

  #stop() {
    this.#run.isStopped = true;
    this.#show();
  }

  /** Ask whether there is one that this page does not know. */
  async #askServer() {
    const asking = (this.#asking += 1);
    this.#isKnownToServer = false;
    try {
      const { calls } = await get("v1/calls", [["state", "FAILED"], ["limit", 1]]);
      if (asking !== this.#asking) return;
      this.#isKnownToServer = calls.length > 0;
      this.#show();
    } catch {
      // it is not offered, then
    }
  }

  #forget() {
    this.#asking += 1;
    this.#isKnownToServer = null;
    if (!this.#run) this.#say("");
  }

  #progress(text) {
    setText(find("retry-all-progress"), text);
    this.#show();
  }

  #say(text) {
    setText(find("retry-all-word"), text);
    setText(find("retry-all-progress"), "");
  }

  #show() {
    const isBusy = this.#run !== null;
    const { isChosen, known } = this.#offer;
    const canBegin = isChosen && (known > 0 || this.#isKnownToServer === true);
    const hasWord = find("retry-all-word").textContent !== "";
    const focused = document.activeElement;
    find("retry-all-part").hidden = !isBusy && !canBegin && !hasWord;
    find("retry-all").hidden = isBusy || !canBegin;
    find("retry-all-stop").hidden = !isBusy;
    find("retry-all-stop").setAttribute("aria-disabled", String(isBusy && this.#run.isStopped));
    setText(find("retry-all-stop"), isBusy && this.#run.isStopped ? "Stopping…" : "Stop");
    if (find("retry-all-part").contains(focused) && !focused.checkVisibility()) keepFocus();
  }
}

/** A button that is gone gives the focus to the one in its place. */
function keepFocus() {
  const places = [find("retry-all"), find("retry-all-stop"), find("board-title")];
  places.find((place) => place.checkVisibility())?.focus({ preventScroll: true });
}

function pageAt(limit, cursor) {
  return cursor === undefined ? [["limit", limit]] : [["limit", limit], ["cursor", cursor]];
}

function totalOf({ matched, isMore }) {
  return isMore ? `more than ${count(matched)}` : count(matched);
}

function questionOf(found) {
  const isOne = found.matched === 1 && !found.isMore;
  return {
    title: `Retry ${totalOf(found)} failed ${isOne ? "call" : "calls"}?`,
    text: "These are all failed calls of the server, also those that were cancelled, busy or not answered, and those"
      + " that a search leaves out. Their AI steps run again, with attempts from 1. You can stop on the way.",
    yes: "Retry all",
  };
}

function summaryOf({ matched, retried, isStopped }) {
  const rest = matched - retried;
  const others = rest ? ` ${count(rest)} could not be: somebody was faster, or the server could not just then.` : "";
  return `${isStopped ? "Stopped: " : ""}${count(retried)} of ${counted(matched, "failed call")} retried.${others}`;
}
