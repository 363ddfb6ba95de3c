// How states, events, numbers and times read.

export const STATES = ["IN_PROGRESS", "COMPLETED", "PROCESSING_AI", "ARCHIVED", "FAILED"];

const LABELS = {
  IN_PROGRESS: "In progress",
  COMPLETED: "Completed",
  PROCESSING_AI: "Processing AI",
  ARCHIVED: "Archived",
  FAILED: "Failed",
};
const WHOLE = new Intl.NumberFormat("en");
const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const CLOCK = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const DAY = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

export function label(state) {
  return LABELS[state] ?? String(state);
}

/** A count: every digit up to a million, then short. */
export function count(value) {
  if (value === null || value === undefined) return "–";
  return value < 1_000_000 ? WHOLE.format(value) : SHORT.format(value);
}

/** A count of things. */
export function counted(value, one, many = `${one}s`) {
  return `${count(value)} ${value === 1 || value === 1n ? one : many}`;
}

/** Every digit of an integer, grouped. */
export function digits(value) {
  return WHOLE.format(value);
}

/** A length of time in milliseconds: 0 s, 59 s, 1 m 05 s, 2 h 07 m, 3 d 04 h. */
export function span(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} m ${two(seconds % 60)} s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${two(Math.floor(seconds / 60) % 60)} m`;
  return `${Math.floor(seconds / 86_400)} d ${two(Math.floor(seconds / 3600) % 24)} h`;
}

/** A short length of time with its fraction: 12 ms, 1.25 s, then as span(). */
export function precise(milliseconds) {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  return milliseconds < 60_000 ? `${(milliseconds / 1000).toFixed(2)} s` : span(milliseconds);
}

/** Seconds as a figure that keeps its width. */
export function seconds(value) {
  if (value === null || value === undefined) return "–";
  return value < 10 ? `${value.toFixed(2)} s` : `${value.toFixed(1)} s`;
}

export function timeOfDay(at) {
  return CLOCK.format(at);
}

export function dayAndTime(at) {
  return DAY.format(at);
}

/** What the attempt column says: "2 of 4, running". */
export function attemptOf(call, maximum, now) {
  if (!call.attempt) return "";
  const number = maximum ? `${call.attempt} of ${maximum}` : `${call.attempt}`;
  if (call.state !== "PROCESSING_AI") return number;
  if (call.attempt_running) return `${number}, running`;
  const due = Date.parse(call.next_attempt_at ?? "");
  if (Number.isNaN(due)) return number;
  return due > now ? `${number}, next in ${Math.ceil((due - now) / 1000)} s` : `${number}, next is due`;
}

/** One event in words: "Completed", "attempt 2 failed: no answer". */
export function eventWords(event) {
  if (event.phase !== undefined) {
    const reason = event.reason ? `: ${event.reason}` : "";
    return `attempt ${event.attempt} ${event.phase}${reason}`;
  }
  if (event.from === null || event.from === undefined) return "started";
  if (event.state === "FAILED" && event.last_error?.reason) return `failed: ${event.last_error.reason}`;
  if (event.state === "FAILED") return failure(event.end_reason);
  if (event.from === "FAILED") return "retried by hand";
  return WORDS[event.state] ?? label(event.state);
}

/** How a call failed for which nothing more is known than why it ended. */
export function failure(endReason) {
  return ["api", "failed", null, undefined].includes(endReason) ? "failed" : `failed: ${endReason.replaceAll("_", " ")}`;
}

const WORDS = {
  COMPLETED: "completed",
  PROCESSING_AI: "processing began",
  ARCHIVED: "archived",
};

function two(value) {
  return String(value).padStart(2, "0");
}
