// While the server asks for a key: the key that did not open it is forgotten, calls are hidden, a dialog asks.

import { abandon, tryKey } from "./api.js";
import { find, setText } from "./elements.js";
import { KeyDialog } from "./key_dialog.js";
import * as key from "./key.js";

const REASONS = {
  needed: "This server shows its calls to whoever has a key.",
  ended: "The key has ended: it was revoked, or its time is over. Enter another one to go on.",
  scope: "The key is not for supervising. Enter another one to go on.",
  forgotten: "The key is forgotten in this tab. Enter one to go on.",
};

export class Lock {
  isLocked = false;

  #reason = "";
  #dialog;
  #onLock;
  #onUnlock;

  /** *onLock* is to hide everything of calls and to ask for nothing more; *onUnlock* to begin anew. */
  constructor({ onLock, onUnlock }) {
    this.#onLock = onLock;
    this.#onUnlock = onUnlock;
    this.#dialog = new KeyDialog({ onKey: (text) => this.#accept(text), onLeave: () => this.#left() });
    find("enter-key").addEventListener("click", () => this.#dialog.open(this.#reason));
    find("forget-key").addEventListener("click", () => this.#lock("forgotten"));
    this.#show();
  }

  /** Take a Problem whose cause is the key, or that there is none. */
  refuse(problem) {
    return this.#lock(problem.status === 401 ? "ended" : "scope");
  }

  /** Take that the server has closed the connection because the key has ended. */
  end() {
    return this.#lock("ended");
  }

  async #lock(kind) {
    if (this.isLocked) return;
    const hadKey = key.current() !== null;
    this.#reason = REASONS[hadKey ? kind : "needed"];
    this.isLocked = true;
    key.forget();
    abandon();
    this.#show();
    this.#onLock();
    if (hadKey && (await needsNone())) this.#unlock();
    else this.#dialog.open(this.#reason);
  }

  #accept(text) {
    key.keep(text);
    this.#unlock();
  }

  #unlock() {
    this.isLocked = false;
    this.#dialog.close();
    this.#show();
    this.#onUnlock();
  }

  #left() {
    if (this.isLocked) find("enter-key").focus();
  }

  #show() {
    setText(find("locked-reason"), this.#reason);
    find("locked").hidden = !this.isLocked;
    find("forget-key").hidden = key.current() === null;
    find("pause").hidden = this.isLocked;
  }
}

/** Whether the server opens without a key: its database may be another one by now. */
async function needsNone() {
  try {
    await tryKey(null);
    return true;
  } catch {
    return false;
  }
}
