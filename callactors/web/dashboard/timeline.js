// What happened to a call, in order: its transitions and attempts, and what vendors told.

import { make } from "./elements.js";
import { dayAndTime, label, precise, timeOfDay } from "./words.js";

/** One line of the list, with the time since *before*, the event before it, if any. */
export function lineOf(event, before) {
  const at = Date.parse(event.at);
  const since = before ? `+${precise(at - Date.parse(before.at))}` : "";
  return make(
    "li",
    { "data-state": event.state, "data-kind": event.kind, "data-phase": event.phase ?? event.kind },
    make("span", { class: "what" }, what(event)),
    make("span", { class: "when" }, make("time", { datetime: event.at, title: dayAndTime(at) }, timeOfDay(at)), " ",
      make("span", { class: "since" }, since)),
    ...details(event).map((text) => make("span", { class: "detail" }, text)),
  );
}

function what(event) {
  if (event.kind === "stream") return `Stream ${event.stream ?? ""} ${event.phase ?? ""}`;
  if (event.kind === "status") return `${event.vendor ?? "The provider"} says ${event.status ?? "something"}`;
  return event.phase === undefined ? transition(event) : attempt(event);
}

function transition(event) {
  const chip = make("span", { class: "chip", "data-state": event.state }, label(event.state));
  if (!event.from) return make("span", {}, chip, " the call began");
  return make("span", {}, chip, make("span", { class: "quiet" }, ` from ${label(event.from)}`));
}

function attempt(event) {
  return `Attempt ${event.attempt} ${event.phase}`;
}

function details(event) {
  const told = Object.entries(event.told ?? {}).map(([name, value]) => `${name.replaceAll("_", " ")}: ${value}`);
  if (event.reason) told.push(event.reason);
  if (event.retry_in !== undefined && event.retry_in !== null) told.push(`Next attempt ${event.retry_in} s later`);
  if (event.phase !== undefined || event.kind === "status") return told;
  if (event.state === "FAILED" && event.last_error?.reason) told.push(`Gave up: ${event.last_error.reason}`);
  if (event.end_reason && event.state === "COMPLETED") told.push(`Reason: ${event.end_reason}`);
  if (event.generation > 1) told.push(`Generation ${event.generation} begins`);
  return told;
}
