// How the connection stands, in words: the lamp in the bar, announcements, and notices that go away.

import { find, setAttribute, setText } from "./elements.js";

const WORDS = {
  connecting: "Connecting",
  live: "Live",
  degraded: "Delayed",
  paused: "Paused",
  reconnecting: "Reconnecting",
  stopped: "Stopped",
  locked: "Key needed",
};
const DEGRADED = {
  "held-back": "Events come late: a transaction is open in the database.",
  "storage-unavailable": "Events come late: the database does not answer.",
};
const NOTICE = 12_000;

/** Show a feed's state. The countdown is left to tick(), and not announced each second. */
export function show(state) {
  setAttribute(find("connection"), "data-state", state.name);
  setText(find("connection-word"), WORDS[state.name]);
  const detail = state.name === "degraded" ? (DEGRADED[state.detail] ?? "Events come late.") : (state.detail ?? "");
  setText(find("announcement"), `${WORDS[state.name]}. ${detail}`.trim());
  setAttribute(find("connection"), "title", detail);
  find("connect").hidden = state.name !== "stopped" && state.name !== "reconnecting";
  setText(find("connect"), state.name === "stopped" ? "Connect again" : "Connect now");
  if (detail && (state.name === "degraded" || state.name === "stopped")) notice(detail, { stays: true, of: state.name });
  else withdraw("degraded", "stopped");
  tick(state);
}

export function tick(state) {
  const left = state.name === "reconnecting" ? Math.max(0, Math.ceil((state.until - Date.now()) / 1000)) : null;
  setText(find("connection-detail"), left === null ? "" : `in ${left} s`);
}

let timer = 0;
let topic = "";

/** Show a notice; unless it *stays*, it goes by itself. */
export function notice(text, { stays = false, of = "" } = {}) {
  clearTimeout(timer);
  topic = of;
  setText(find("notice-text"), text);
  find("notice").hidden = false;
  if (!stays) timer = setTimeout(close, NOTICE);
}

/** Take a notice of one of *topics* back. */
export function withdraw(...topics) {
  if (topics.includes(topic)) close();
}

export function close() {
  clearTimeout(timer);
  topic = "";
  find("notice").hidden = true;
}
