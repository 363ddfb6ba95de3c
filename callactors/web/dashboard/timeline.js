// What happened to a call, in order: its transitions and attempts.

import { make } from "./elements.js";
import { dayAndTime, label, precise, timeOfDay } from "./words.js";

/** One line of the list, with the time since *before*, the event before it, if any. */
export function lineOf(event, before) {
  const at = Date.parse(event.at);
  const since = before ? `+${precise(at - Date.parse(before.at))}` : "";
  return make(
    "li",
    { "data-state": event.state, "data-phase": event.phase ?? "transition" },
    make("span", { class: "what" }, event.phase === undefined ? transition(event) : attempt(event)),
    make("span", { class: "when" }, make("time", { datetime: event.at, title: dayAndTime(at) }, timeOfDay(at)), " ",
      make("span", { class: "since" }, since)),
    ...details(event).map((text) => make("span", { class: "detail" }, text)),
  );
}

function transition(event) {
  const chip = make("span", { class: "chip", "data-state": event.state }, label(event.state));
  if (!event.from) return make("span", {}, chip, " the first packet came");
  return make("span", {}, chip, make("span", { class: "quiet" }, ` from ${label(event.from)}`));
}

function attempt(event) {
  return `Attempt ${event.attempt} ${event.phase}`;
}

function details(event) {
  const told = [];
  if (event.reason) told.push(event.reason);
  if (event.retry_in !== undefined && event.retry_in !== null) told.push(`Next attempt ${event.retry_in} s later`);
  if (event.phase !== undefined) return told;
  if (event.state === "FAILED" && event.last_error?.reason) told.push(`Gave up: ${event.last_error.reason}`);
  if (event.end_reason && event.state === "COMPLETED") told.push(`Reason: ${event.end_reason}`);
  if (event.generation > 1) told.push(`Generation ${event.generation} begins`);
  return told;
}
