// The model: the calls this page knows, as the frames of the supervisors' socket tell them.

const LIMIT = 10_000;

/** What an event may tell of a call beside its place in the log. */
const FACTS = ["generation", "end_reason"];

export class Calls {
  /** Ids of calls that have changed since the table took them. */
  changed = new Set();
  /** Whether order and counts may have changed: a call came or went, or is in another state. */
  isReordered = true;
  /** Whether a snapshot is complete: before that, nothing known does not mean no calls. */
  isLoaded = false;
  /** Whether live calls had to be left out. */
  isCut = false;

  #calls = new Map();
  #ended = new Set(); // in the order in which they leave
  #staged = null; // a snapshot that is still coming
  #limit;

  constructor(limit = LIMIT) {
    this.#limit = limit;
  }

  get size() {
    return this.#calls.size;
  }

  get(callId) {
    return this.#calls.get(callId);
  }

  has(callId) {
    return this.#calls.has(callId);
  }

  values() {
    return this.#calls.values();
  }

  /** Forget all of them. */
  clear() {
    this.#calls.clear();
    this.#ended.clear();
    this.#staged = null;
    this.changed.clear();
    this.isReordered = true;
    this.isLoaded = this.isCut = false;
  }

  /** Apply a snapshot's part. Returns, with the last one, how many events the snapshot was ahead; else null. */
  applySnapshot(frame) {
    if (frame.part === 1) this.#staged = new Map();
    if (this.#staged === null) return null;
    for (const summary of frame.calls) {
      const known = this.#staged.get(summary.call_id); // an event between the parts was faster
      if (known) take(known, withoutOldCounts(summary));
      else this.#staged.set(summary.call_id, enrich(withoutOldCounts(summary)));
    }
    return frame.last ? this.#swap() : null;
  }

  get isStaging() {
    return this.#staged !== null;
  }

  /** Forget a snapshot whose rest will not come. */
  dropStaged() {
    this.#staged = null;
  }

  /** Apply a transition or an attempt. Returns whether it was news. */
  applyEvent(event) {
    const calls = this.#staged ?? this.#calls;
    const known = calls.get(event.call_id);
    if (known && known.version >= event.version) return this.#tellLast(known, event);
    const call = known ?? stub(event);
    const before = call.finished_ms;
    change(call, event);
    if (this.#staged) {
      calls.set(call.call_id, call);
      return true;
    }
    if (!known || (before === null) !== (call.finished_ms === null)) this.#place(call);
    this.changed.add(call.call_id);
    this.isReordered ||= event.phase === undefined;
    return true;
  }

  /** Take over exact counts from the list; facts only if they are not older than what is known. */
  refresh(summary) {
    const call = this.#calls.get(summary.call_id);
    if (!call) return;
    const { state } = call;
    const wasEnded = call.finished_ms !== null;
    take(call, summary);
    this.isReordered ||= state !== call.state;
    if (wasEnded !== (call.finished_ms !== null)) this.#place(call);
    this.changed.add(call.call_id);
  }

  /** A summary may be faster than the events it stands for: they are no news, but the last one is shown. */
  #tellLast(call, event) {
    if (call.version > event.version || call.last_event?.version >= event.version) return false;
    call.last_event = event;
    this.changed.add(call.call_id);
    return false;
  }

  #swap() {
    const before = this.#calls;
    this.#calls = new Map();
    this.#ended.clear();
    this.isCut = false;
    let missed = 0;
    const newest = [...this.#staged.values()].sort((a, b) => a.order_ms - b.order_ms);
    for (const call of newest) {
      const known = before.get(call.call_id);
      missed += Math.max(0, call.version - (known?.version ?? 0));
      if (known && known.version === call.version) call.last_event = known.last_event;
      this.#place(call);
    }
    this.#staged = null;
    this.isLoaded = this.isReordered = true;
    for (const callId of [...before.keys(), ...this.#calls.keys()]) this.changed.add(callId);
    return missed;
  }

  #place(call) {
    this.#calls.set(call.call_id, call);
    this.#ended.delete(call.call_id);
    if (call.finished_ms !== null) this.#ended.add(call.call_id);
    this.isReordered = true;
    while (this.#calls.size > this.#limit) this.#leave();
  }

  #leave() {
    const [oldest] = this.#ended.size ? this.#ended : this.#calls.keys();
    if (!this.#ended.delete(oldest)) this.isCut = true;
    this.#calls.delete(oldest);
    this.changed.add(oldest);
  }
}

/** Take over what a summary tells: all of it, or, if the call has moved on, what events do not carry. */
function take(call, summary) {
  if (summary.version >= call.version) {
    Object.assign(call, summary, { last_event: summary.last_event ?? call.last_event });
    call.is_settled = summary.finished_at !== null;
  } else {
    const { packets, late, duplicates, missing_count, has_gaps, started_at } = summary;
    Object.assign(call, { packets, late, duplicates, missing_count, has_gaps, started_at });
  }
  enrich(call);
}

/** A summary as a call; of one that has not ended the counts in a snapshot may be a minute old. */
function withoutOldCounts(summary) {
  const unknown = { packets: null, late: null, duplicates: null, missing_count: null };
  return { ...summary, ...(summary.finished_at === null ? unknown : {}) };
}

/** A call of which one event is known, and no counts yet. */
function stub(event) {
  return {
    call_id: event.call_id, state: event.state, version: 0, generation: 1, attempt: 0, attempt_running: false,
    next_attempt_at: null, end_reason: null, packets: null, late: null, duplicates: null, missing_count: null,
    started_at: event.from === null ? event.at : null, finished_at: null, completed_at: null,
  };
}

function change(call, event) {
  call.version = event.version;
  call.state = event.state;
  call.attempt = event.phase === "given back" ? event.attempt - 1 : event.attempt;
  call.attempt_running = event.phase === "started";
  call.next_attempt_at = nextAttempt(event);
  for (const name of FACTS) if (event[name] !== undefined) call[name] = event[name];
  if (event.phase === undefined) {
    if (event.state === "COMPLETED") call.completed_at = event.at;
    const isFinal = event.state === "ARCHIVED" || event.state === "FAILED";
    call.finished_at = isFinal ? event.at : null;
    call.is_settled = false;
  }
  call.last_event = event;
  enrich(call);
}

function nextAttempt(event) {
  if (event.phase === "given back") return event.at;
  if (event.phase !== "failed" || event.retry_in === undefined) return null;
  return new Date(Date.parse(event.at) + event.retry_in * 1000).toISOString();
}

/** Times as numbers, once, because the table sorts by them. A summary of an ended call has its last counts. */
function enrich(call) {
  const started = Date.parse(call.started_at ?? "");
  call.started_ms = Number.isNaN(started) ? null : started;
  call.finished_ms = call.finished_at === null ? null : Date.parse(call.finished_at);
  call.order_ms = call.finished_ms ?? call.started_ms ?? (Date.parse(call.last_event?.at ?? "") || 0);
  call.is_settled ??= call.finished_ms !== null;
  return call;
}
