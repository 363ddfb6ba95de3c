// The connection to ws/supervisor: opens it, resumes it with the last cursor, and says how it stands.

import { address } from "./api.js";

const STAY_AWAY = {
  1007: "The server did not understand this page. Reload it.",
  1008: "This page asked for too much, and the server has closed the connection.",
  1009: "This page sent too much, and the server has closed the connection.",
};
const FIRST_DELAY = 500;
const LONGEST_DELAY = 15_000;
const SILENCE = 25_000; // the server speaks every 10 s at least
const STALE = 10 * 60_000; // after so long away a snapshot is less than the events in between
const HOPELESS = 3; // refusals of a cursor in a row, after which it is given up

/**
 * States: connecting, live, degraded (events come late), paused, reconnecting (with `until`, in milliseconds),
 * stopped (with `detail`). `onFrame(frame)` gets event, attempt, snapshot and gap frames.
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
  #onFrame;
  #onState;

  constructor({ onFrame, onState }) {
    this.#onFrame = onFrame;
    this.#onState = onState;
  }

  /** Connect, unless that is done or under way. */
  start() {
    if (this.#socket) return;
    clearTimeout(this.#timer);
    if (this.#cursor && Date.now() - this.#heardAt > STALE) this.#cursor = null;
    this.#tell({ name: "connecting" });
    const socket = new WebSocket(this.#address());
    this.#socket = socket;
    socket.addEventListener("open", () => this.#opened(socket));
    socket.addEventListener("message", ({ data }) => this.#received(socket, data));
    socket.addEventListener("close", ({ code }) => this.#closed(socket, code));
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
    if (["snapshot", "event", "attempt"].includes(frame.type)) this.#onFrame(frame);
    if (frame.cursor && !this.#isLoading) this.#cursor = frame.cursor;
    return undefined;
  }

  #closed(socket, code) {
    if (socket !== this.#socket) return;
    const wasOpen = this.state.name !== "connecting";
    this.#release();
    if (code in STAY_AWAY) return this.stop(STAY_AWAY[code]);
    if (!wasOpen && this.#cursor && ++this.#refusals >= HOPELESS) this.#cursor = null;
    const delay = Math.max(this.#backoff(), this.#retryAfter);
    this.#failures += 1;
    this.#retryAfter = 0;
    this.#timer = setTimeout(() => this.start(), delay);
    return this.#tell({ name: "reconnecting", until: Date.now() + delay });
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
