// The page of one call: facts, timeline, gaps, result and raw events. It asks again when the feed tells of its call.

import { callPath, get } from "./api.js";
import { CallActions } from "./call_actions.js";
import { now } from "./clock.js";
import { find, make, setText } from "./elements.js";
import { pictureOf } from "./gaps.js";
import { Poll } from "./poll.js";
import { lineOf } from "./timeline.js";
import { attemptOf, count, dayAndTime, digits, label, span } from "./words.js";

const INTERVAL = 5_000;
const SOON = 150; // a burst of events is one question
const PAGE = 200;
const MOST_EVENTS = 2_000;

export class CallPage {
  #element;
  #back;
  #callId = null;
  #call = null;
  #events = [];
  #hasMore = false;
  #parts = {};
  #shown = {};
  #poll = new Poll(() => this.#load(), INTERVAL);
  #actions = new CallActions({ reload: () => this.#load() });
  #isAwake = false;

  /** *back* is the URL of the board, made when it is needed. */
  constructor(element, { back }) {
    this.#element = element;
    this.#back = back;
  }

  get callId() {
    return this.#callId;
  }

  open(callId) {
    if (this.#callId === callId) return;
    this.close();
    this.#callId = callId;
    this.#element.replaceChildren(...this.#frame(callId));
    this.#element.hidden = false;
    find("call-title").focus({ preventScroll: true });
    if (this.#isAwake) this.#poll.start();
    else this.#load();
  }

  close() {
    this.#poll.stop();
    this.#callId = this.#call = null;
    this.#events = [];
    this.#shown = {};
    this.#actions.clear();
    this.#element.hidden = true;
    this.#element.replaceChildren();
  }

  /** Ask from time to time, or leave it. */
  wake(isAwake) {
    this.#isAwake = isAwake;
    if (isAwake && this.#callId) this.#poll.start();
    else this.#poll.stop();
  }

  /** Hear that something happened to a call. */
  notice(callId) {
    if (callId === this.#callId) this.#poll.soon(SOON);
  }

  tick(maximum) {
    const call = this.#call;
    if (!call) return;
    setText(this.#parts.attempt, attemptOf(call, call.max_attempts ?? maximum, now()) || "none");
    const end = call.finished_at ? Date.parse(call.finished_at) : now();
    setText(this.#parts.age, span(end - Date.parse(call.started_at)));
  }

  async #load() {
    const callId = this.#callId;
    if (callId === null) return;
    try {
      const call = await get(callPath(callId));
      const events = await this.#newEvents(callId);
      if (callId !== this.#callId) return;
      if (!(this.#call?.version > call.version)) this.#call = call;
      const last = this.#events.at(-1)?.version ?? 0; // a question asked meanwhile may have been faster
      this.#events.push(...events.filter(({ version }) => version > last));
      this.#show();
    } catch (problem) {
      if (callId === this.#callId) this.#tell(problem);
    }
  }

  async #newEvents(callId) {
    const found = [];
    let after = this.#events.at(-1)?.version ?? 0;
    while (after !== null && this.#events.length + found.length < MOST_EVENTS) {
      const page = await get(callPath(callId, "/events"), [["after", after], ["limit", PAGE]]);
      found.push(...page.events);
      after = page.next;
    }
    this.#hasMore = after !== null;
    return found;
  }

  #tell(problem) {
    if (problem.isOfOtherCalls) this.#poll.stop();
    setText(this.#parts.problem, wordsOf(problem));
    this.#parts.problem.hidden = false;
    this.#parts.body.hidden = this.#call === null;
  }

  #frame(callId) {
    const part = (name, tag, ...children) => (this.#parts[name] = make(tag, { class: name }, ...children));
    const title = make("h1", { id: "call-title", tabindex: "-1" }, callId);
    const back = make("a", { href: this.#back(), "data-back": true, class: "back" }, "← All calls");
    part("problem", "p").hidden = true;
    part("body", "div",
      section("Facts", part("facts", "dl")),
      section("What happened", part("timeline", "ol")),
      make("div", { class: "column" },
        section("Sequence", part("streams", "div")),
        section("Result", part("result", "div"))),
      section("Raw events", part("raw", "div"), "details"));
    this.#parts.body.hidden = true;
    part("attempt", "span");
    part("age", "span");
    const { element, outcome } = this.#actions;
    const head = make("div", { class: "title" }, title, part("head", "span"), element);
    return [back, head, outcome, this.#parts.problem, this.#parts.body];
  }

  #show() {
    const { head, problem, body, facts, streams, result, timeline, raw } = this.#parts;
    const call = this.#call;
    problem.hidden = true;
    body.hidden = false;
    this.tick(null);
    this.#actions.show(call);
    this.#renew("head", [call.state], () => head.replaceChildren(chipOf(call)));
    this.#renew("facts", { ...call, streams: 0, result: 0 }, () => facts.replaceChildren(...this.#facts(call)));
    this.#renew("streams", call.streams, () => streams.replaceChildren(...picturesOf(call.streams)));
    this.#renew("result", [call.state, call.result, call.metadata, call.last_error], () =>
      result.replaceChildren(...resultOf(call)));
    this.#renew("events", this.#events.length, () => this.#showEvents(timeline, raw));
  }

  /** Run *make* if *source* is not what it last was, so that what stays is not built again under the reader. */
  #renew(name, source, renew) {
    const signature = write(source);
    if (this.#shown[name] === signature) return;
    this.#shown[name] = signature;
    renew();
  }

  #showEvents(timeline, raw) {
    const shown = timeline.childElementCount;
    for (let index = shown; index < this.#events.length; index += 1) {
      timeline.append(lineOf(this.#events[index], this.#events[index - 1]));
    }
    const rest = this.#hasMore ? make("p", { class: "quiet" }, `The first ${count(MOST_EVENTS)} are shown.`) : null;
    const text = this.#events.map((event) => JSON.stringify(event)).join("\n");
    raw.replaceChildren(make("pre", { tabindex: "0" }, text), ...(rest ? [rest] : []));
  }

  #facts(call) {
    const times = [["Started", call.started_at], ["Last packet", call.last_packet_at],
      ["Completed", call.completed_at], ["Finished", call.finished_at]];
    const facts = [["Age", this.#parts.age], ["Attempt", this.#parts.attempt],
      ["Packets", digits(call.packets)], ["Missing", digits(call.missing_count ?? 0)],
      ["Late", digits(call.late)], ["Duplicates", digits(call.duplicates)],
      ...times.map(([name, at]) => [name, at ? make("time", { datetime: at }, dayAndTime(Date.parse(at))) : "–"]),
      ["End reason", call.end_reason ?? "–"], ["Generation", digits(call.generation)],
      ["Restarts of its actor", digits(call.crashes)]];
    return facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)));
  }
}

function wordsOf(problem) {
  if (problem.isOfOtherCalls) return `The key does not open this call: ${problem.message}.`;
  return problem.status === 404 ? "There is no call with this id." : problem.message;
}

function section(title, content, tag = "section") {
  const heading = make("h2", {}, title);
  return make(tag, { class: "part" }, tag === "details" ? make("summary", {}, heading) : heading, content);
}

function chipOf(call) {
  return make("span", { class: "chip", "data-state": call.state }, label(call.state));
}

function picturesOf(streams) {
  const names = Object.keys(streams);
  if (!names.length) return [make("p", { class: "quiet" }, "No packets yet.")];
  return names.sort().map((name) => pictureOf(name, streams[name]));
}

function resultOf(call) {
  const { transcript, sentiment } = Object(call.result);
  const parts = [];
  if (typeof sentiment === "string") {
    parts.push(make("p", {}, "Sentiment: ", make("span", { class: "sentiment", "data-sentiment": sentiment }, sentiment)));
  }
  if (typeof transcript === "string") parts.push(make("blockquote", {}, transcript));
  if (call.result === null) parts.push(make("p", { class: "quiet" }, nothing(call)));
  else parts.push(folded("Result as JSON", call.result, !parts.length));
  if (call.last_error) parts.push(folded("Last error", call.last_error, call.state === "FAILED"));
  if (call.metadata && Object.keys(call.metadata).length) parts.push(folded("Metadata", call.metadata, true));
  return parts;
}

function nothing(call) {
  if (call.state === "FAILED") return "The call failed: there is no result.";
  return call.state === "ARCHIVED" ? "There was nothing to process." : "None yet.";
}

function folded(title, value, isOpen) {
  return make("details", { open: isOpen }, make("summary", {}, title), make("pre", { tabindex: "0" }, write(value, 2)));
}

/** JSON with every digit of large integers. */
function write(value, indent) {
  const plain = (_, part) => (typeof part === "bigint" ? (JSON.rawJSON?.(String(part)) ?? String(part)) : part);
  return JSON.stringify(value, plain, indent);
}
