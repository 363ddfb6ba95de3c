// The connection to ws/supervisor: opens it, resumes it with the last cursor, and says how it stands.

import { address } from "./api.js";
import * as key from "./key.js";

const STAY_AWAY = {
  1007: "The server did not understand this page. Reload it.",
  1008: "This page asked for too much, and the server has closed the connection.",
  1009: "This page sent too much, and the server has closed the connection.",
};
const SUBPROTOCOL = "callactors.v1";
const POLICY_VIOLATION = 1008;
const KEY_ENDED = "the key has ended";
const FIRST_DELAY = 500;
const LONGEST_DELAY = 15_000;
const SILENCE = 25_000; // the server speaks every 10 s at least
const STALE = 10 * 60_000; // after so long away a snapshot is less than the events in between
const HOPELESS = 3; // refusals of a cursor in a row, after which it is given up

/**
 * States: connecting, live, degraded (events come late), paused, reconnecting (with `until`, in milliseconds),
 * stopped (with `detail`), locked (a key is needed). `onFrame(frame)` gets event, attempt, snapshot, gap and ai_step frames.
 * A browser does not tell why a connection did not open: `check()`, async, is to find out and to lock if that is it.
 */
export class Feed {
  state = { name: "connecting" };
  /** When the present connection opened, by performance.now(). */
  openedAt = 0;

  #cursor = null;
  #heardAt = 0;
  #socket = null;
  #failures = 0;
  #refusals = 0;
  #retryAfter = 0;
  #isLoading = false; // a snapshot has begun, and its last part has not come
  #timer = 0;
  #watchdog = 0;
  #waits = 0; // a wait before this one is over
  #onFrame;
  #onState;
  #onKeyEnded;
  #check;

  constructor({ onFrame, onState, onKeyEnded, check }) {
    this.#onFrame = onFrame;
    this.#onState = onState;
    this.#onKeyEnded = onKeyEnded;
    this.#check = check;
  }

  /** Connect, unless that is done or under way. */
  start() {
    if (this.#socket) return;
    this.#release();
    if (this.#cursor && Date.now() - this.#heardAt > STALE) this.#cursor = null;
    this.#tell({ name: "connecting" });
    const socket = new WebSocket(this.#address(), protocols());
    this.#socket = socket;
    socket.addEventListener("open", () => this.#opened(socket));
    socket.addEventListener("message", ({ data }) => this.#received(socket, data));
    socket.addEventListener("close", ({ code, reason }) => this.#closed(socket, code, reason));
  }

  /** Let go of the connection and keep the cursor. */
  pause(detail = "") {
    this.#release();
    this.#tell({ name: "paused", detail });
  }

  /** Let go of the connection until somebody asks for it. */
  stop(detail) {
    this.#release();
    this.#tell({ name: "stopped", detail });
  }

  /** Let go of the connection until there is a key, which may be for other calls. */
  lock() {
    this.#release();
    this.#cursor = null;
    this.#failures = 0;
    this.#tell({ name: "locked" });
  }

  #address() {
    const parameters = [["kinds", "attempt"], this.#cursor ? ["since", this.#cursor] : ["snapshot", "1"]];
    const url = address("ws/supervisor", parameters);
    url.protocol = url.protocol.replace("http", "ws");
    return url;
  }

  #opened(socket) {
    if (socket !== this.#socket) return;
    this.openedAt = performance.now();
    this.#refusals = 0;
    this.#isLoading = false;
    this.#listen();
    this.#tell({ name: "live" });
  }

  #received(socket, data) {
    if (socket !== this.#socket) return;
    this.#failures = 0;
    this.#listen();
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return; // not of this protocol
    }
    this.#handle(frame);
  }

  #handle(frame) {
    switch (frame.type) {
      case "degraded":
        return this.state.detail === frame.reason ? undefined : this.#tell({ name: "degraded", detail: frame.reason });
      case "recovered":
        return this.#tell({ name: "live" });
      case "bye":
        this.#retryAfter = Number(frame.retry_after_ms) || 0;
        return undefined;
      case "gap":
        this.#isLoading = true; // its cursor counts once the snapshot behind it is whole
        return this.#onFrame(frame);
      case "snapshot":
        this.#isLoading = !frame.last;
    }
    if (["snapshot", "event", "attempt", "ai_step"].includes(frame.type)) this.#onFrame(frame);
    if (frame.cursor && !this.#isLoading) this.#cursor = frame.cursor;
    return undefined;
  }

  #closed(socket, code, reason = "") {
    if (socket !== this.#socket) return undefined;
    const wasOpen = this.state.name !== "connecting";
    this.#release();
    if (code === POLICY_VIOLATION && reason === KEY_ENDED) return this.#onKeyEnded();
    if (code in STAY_AWAY) return this.#sentAway(code);
    if (!wasOpen && this.#cursor && ++this.#refusals >= HOPELESS) this.#cursor = null;
    const delay = Math.max(this.#backoff(), this.#retryAfter);
    this.#failures += 1;
    this.#retryAfter = 0;
    return this.#comeBack(Date.now() + delay, wasOpen);
  }

  #sentAway(code) {
    this.stop(STAY_AWAY[code]);
    if (code === POLICY_VIOLATION) this.#check();
  }

  async #comeBack(until, wasOpen) {
    this.#tell({ name: "reconnecting", until });
    const wait = this.#waits;
    if (!wasOpen) await this.#check();
    if (wait === this.#waits) this.#timer = setTimeout(() => this.start(), Math.max(0, until - Date.now()));
  }

  /** Half of it is chance, so that a floor of pages does not come back in one moment. */
  #backoff() {
    const longest = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** this.#failures);
    return longest * (0.5 + Math.random() / 2);
  }

  #listen() {
    this.#heardAt = Date.now();
    clearTimeout(this.#watchdog);
    const socket = this.#socket;
    this.#watchdog = setTimeout(() => this.#closed(socket, 1006), SILENCE);
  }

  #release() {
    this.#waits += 1;
    clearTimeout(this.#timer);
    clearTimeout(this.#watchdog);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #tell(state) {
    this.state = state;
    this.#onState(state);
  }
}

/** The page's own, and the key: it must be in no URL. */
function protocols() {
  const held = key.current();
  return held === null ? [] : [SUBPROTOCOL, `bearer.${held}`];
}
