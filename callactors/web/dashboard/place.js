// Where the page stands, kept in its URL: ?state=FAILED&state=…&q=text&call=ID

import { STATES } from "./words.js";

/** What the URL says: the states to show (none: all), the text searched, and the open call or null. */
export function read() {
  const parameters = new URLSearchParams(location.search);
  return {
    states: new Set(parameters.getAll("state").filter((state) => STATES.includes(state))),
    text: (parameters.get("q") ?? "").trim().slice(0, 128),
    callId: parameters.get("call") || null,
  };
}

/** The document's URL for *place*, relative. */
export function urlOf({ states, text, callId }) {
  const parameters = new URLSearchParams();
  for (const state of STATES) if (states.has(state)) parameters.append("state", state);
  if (text) parameters.set("q", text);
  if (callId) parameters.set("call", callId);
  const query = parameters.toString();
  return query ? `?${query}` : location.pathname;
}

/** Keep *place* in the URL without a new step in the history. */
export function keep(place) {
  history.replaceState(history.state, "", urlOf(place));
}

/** Go to *place* as a new step, from which `back` leads here. */
export function go(place) {
  history.pushState({ isInside: true }, "", urlOf(place));
}
