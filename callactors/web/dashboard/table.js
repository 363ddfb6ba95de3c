// The live table: one keyed row a call, changed once a frame, ordered a few times a second.

import { now } from "./clock.js";
import { Row } from "./row.js";

const SHOWN = 500;
const ORDER_INTERVAL = 250;

export class Table {
  /** How many calls match the filter, and how many of them have no row. */
  matching = 0;
  left = 0;
  /** Calls known per state, whatever the filter. */
  counts = {};

  #calls;
  #body;
  #rows = new Map();
  #matches = () => true;
  #orderedAt = -Infinity;
  #isForced = true;
  #visible = new Set();
  #observer;

  /** *onSight* is called when rows have come into sight. */
  constructor(calls, body, onSight) {
    this.#calls = calls;
    this.#body = body;
    this.#observer = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) this.#visible.add(target.dataset.id);
        else this.#visible.delete(target.dataset.id);
      }
      onSight();
    });
  }

  /** Show the calls that *matches* takes. */
  filter(matches) {
    this.#matches = matches;
    this.#isForced = true;
  }

  /** Take all rows out. */
  clear() {
    for (const [callId, row] of this.#rows) this.#close(callId, row);
    this.counts = {};
    this.matching = this.left = 0;
    this.#isForced = true;
  }

  /** Bring the rows up to the model; to be called in an animation frame. Returns whether the order was made anew. */
  render(time, maximum) {
    const calls = this.#calls;
    const isOrdering = this.#isForced || (calls.isReordered && time - this.#orderedAt >= ORDER_INTERVAL);
    if (isOrdering) this.#order(time, maximum);
    const at = now();
    for (const callId of calls.changed) {
      const call = calls.get(callId);
      const row = this.#rows.get(callId);
      if (!call || !row) continue;
      if (this.#matches(call)) row.show(call, maximum, at);
      else this.#close(callId, row);
    }
    calls.changed.clear();
    return isOrdering;
  }

  /** Whether a frame is to be asked for although nothing new came. */
  get isWaiting() {
    return this.#isForced || this.#calls.isReordered;
  }

  /** Let ages and countdowns go on. */
  tick(maximum) {
    const at = now();
    for (const [callId, row] of this.#rows) {
      const call = this.#calls.get(callId);
      if (call) row.tick(call, maximum, at);
    }
  }

  /** Ids of calls in sight whose counts may be out of date, those without any first. */
  outdated(limit) {
    const calls = [...this.#visible].map((callId) => this.#calls.get(callId)).filter(Boolean);
    const wanted = calls.filter((call) => !call.is_settled);
    wanted.sort((a, b) => (a.packets === null ? 0 : 1) - (b.packets === null ? 0 : 1));
    return { ids: wanted.slice(0, limit).map((call) => call.call_id), isUrgent: wanted[0]?.packets === null };
  }

  #order(time, maximum) {
    const wanted = this.#wanted();
    const at = now();
    this.#orderedAt = time;
    this.#isForced = this.#calls.isReordered = false;
    const focused = document.activeElement?.closest?.("tr")?.dataset.id;
    this.#dropOthers(new Set(wanted.map((call) => call.call_id)));
    let next = this.#body.firstChild;
    for (const call of wanted) {
      const row = this.#rows.get(call.call_id) ?? this.#open(call.call_id);
      row.show(call, maximum, at);
      if (row.element === next) next = next.nextSibling;
      else this.#body.insertBefore(row.element, next);
    }
    if (focused && document.activeElement === document.body) this.#rows.get(focused)?.focus();
  }

  /** The calls to show: live ones first, the newest on top, then ended ones, the latest on top. */
  #wanted() {
    const live = [];
    const ended = [];
    const counts = {};
    for (const call of this.#calls.values()) {
      counts[call.state] = (counts[call.state] ?? 0) + 1;
      if (this.#matches(call)) (call.finished_ms === null ? live : ended).push(call);
    }
    live.reverse().sort((a, b) => b.order_ms - a.order_ms);
    const room = SHOWN - live.length;
    if (room > 0) ended.reverse().sort((a, b) => b.order_ms - a.order_ms);
    this.counts = counts;
    this.matching = live.length + ended.length;
    this.left = Math.max(0, this.matching - SHOWN);
    return room > 0 ? live.concat(ended.slice(0, room)) : live.slice(0, SHOWN);
  }

  /** Drop rows that are not wanted, and take out those that change their place, so that the others stay. */
  #dropOthers(ids) {
    for (const [callId, row] of this.#rows) {
      if (!ids.has(callId)) this.#close(callId, row);
      else if (row.isEnded !== (this.#calls.get(callId).finished_ms !== null)) row.element.remove();
    }
  }

  #open(callId) {
    const row = new Row(callId);
    this.#rows.set(callId, row);
    this.#observer.observe(row.element);
    return row;
  }

  #close(callId, row) {
    this.#observer.unobserve(row.element);
    this.#visible.delete(callId);
    this.#rows.delete(callId);
    row.element.remove();
  }
}
