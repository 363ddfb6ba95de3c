// What stands below the table's head when it has no rows.

import { address } from "./api.js";
import { make } from "./elements.js";

const PACKET = '{"sequence":1,"data":"hello","timestamp":1.0}';

/** Nothing is stored yet: how to send the first packet. */
export function firstSteps() {
  const at = (path) => address(path).href;
  const lines = [
    `curl --json '${PACKET}' ${at("v1/call/stream/demo-1")}`,
    `curl -X POST ${at("v1/call/complete/demo-1")}`,
  ];
  return [
    make("h2", {}, "No calls yet"),
    make("p", {}, "A call appears here with its first packet. Send one, then end the call:"),
    make("pre", { tabindex: "0" }, lines.join("\n")),
  ];
}

/** Calls are known, but the filters leave none. */
export function nothingMatches(clear) {
  const button = make("button", { type: "button" }, "Show all calls");
  button.addEventListener("click", clear);
  return [make("h2", {}, "No call matches"), make("p", {}, "The filters leave nothing to show."), button];
}

/** The first snapshot has not come. */
export function loading() {
  return [make("p", { class: "quiet" }, "Waiting for the server…")];
}
