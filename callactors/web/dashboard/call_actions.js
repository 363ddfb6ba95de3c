// What can be done to one call: retry it when it has failed, cancel it while it is live.

import { callPath, post } from "./api.js";
import { ask, dismiss } from "./confirm.js";
import { find, make, setText } from "./elements.js";
import { refusalOf } from "./refusals.js";
import { digits } from "./words.js";

const LIVE = new Set(["IN_PROGRESS", "COMPLETED", "PROCESSING_AI"]);

const ACTIONS = {
  retry: {
    word: "Retry",
    busy: "Retrying…",
    isFor: (state) => state === "FAILED",
    question: {
      title: "Retry this call?",
      text: "Its AI step runs again, with attempts from 1. If they fail too, the call is Failed again.",
      yes: "Retry",
    },
    done: ({ generation }) => `The retry was accepted: generation ${digits(generation)} has begun.`,
  },
  cancel: {
    word: "Cancel call",
    busy: "Cancelling…",
    isFor: (state) => LIVE.has(state),
    question: {
      title: "Cancel this call?",
      text: "It ends as Failed, with the reason canceled. An attempt that runs is cancelled: its answer is not taken.",
      yes: "Cancel call",
      no: "Keep it",
    },
    done: () => "The call was cancelled.",
  },
};

export class CallActions {
  /** The buttons. */
  element = make("div", { class: "doing" });
  /** What came of it. */
  outcome = make("p", { class: "outcome", role: "status" });

  #buttons = {};
  #call = null;
  #busy = null; // the name of what is under way
  #round = 0; // answers that concern a call that was left are dropped
  #reload;

  /** *reload*, async, is to ask for the call anew and to show() it. */
  constructor({ reload }) {
    this.#reload = reload;
    for (const name of Object.keys(ACTIONS)) {
      const button = make("button", { type: "button" });
      button.addEventListener("click", () => this.#run(name));
      this.#buttons[name] = button;
      this.element.append(button);
    }
    this.clear();
  }

  /** Forget the call. */
  clear() {
    this.#round += 1;
    this.#call = this.#busy = null;
    dismiss();
    this.#tell("");
    this.#renew();
  }

  /** Offer what *call*, as the server has told it, can take. */
  show(call) {
    this.#call = call;
    this.#renew();
  }

  async #run(name) {
    if (this.#busy !== null) return;
    const round = this.#round;
    const { call_id: callId } = this.#call;
    const isMeant = await ask({ ...ACTIONS[name].question, subject: callId });
    if (round !== this.#round) return;
    this.#keepFocus();
    if (!isMeant) return;
    this.#setBusy(name);
    this.#tell("");
    const { told, problem } = await attempt(callPath(callId, `/${name}`));
    if (round === this.#round) await this.#reload();
    if (round !== this.#round) return;
    this.#setBusy(null);
    if (problem) this.#tell(refusalOf(problem, this.#newState(name)), true);
    else this.#tell(ACTIONS[name].done(told));
  }

  /** The call's state, unless it is one that *name* is for: then it is not known why it was refused. */
  #newState(name) {
    const { state } = this.#call;
    return ACTIONS[name].isFor(state) ? null : state;
  }

  #setBusy(name) {
    this.#busy = name;
    this.#renew();
  }

  /** What is under way stays in sight until it is known what came of it. */
  #renew() {
    const hadFocus = this.element.contains(document.activeElement);
    for (const [name, button] of Object.entries(this.#buttons)) {
      const isBusy = this.#busy === name;
      button.hidden = this.#busy === null ? !ACTIONS[name].isFor(this.#call?.state) : !isBusy;
      button.setAttribute("aria-disabled", String(isBusy));
      setText(button, isBusy ? ACTIONS[name].busy : ACTIONS[name].word);
    }
    if (hadFocus) this.#keepFocus();
  }

  /** A button that is gone must not take the focus with it. */
  #keepFocus() {
    const focused = document.activeElement;
    if (focused === document.body || !focused.checkVisibility()) find("call-title")?.focus({ preventScroll: true });
  }

  #tell(text, isRefusal = false) {
    this.outcome.classList.toggle("wrong", isRefusal);
    setText(this.outcome, text);
  }
}

async function attempt(path) {
  try {
    return { told: await post(path), problem: null };
  } catch (problem) {
    return { told: null, problem };
  }
}
