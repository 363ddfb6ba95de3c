// Why something that was asked for was not done, in words.

import { label } from "./words.js";

const NOT_NOW = new Set([0, 429, 503]); // 0: no answer

/** What to say of *problem*; *state* is the state of the call by now, if it is about one. */
export function refusalOf(problem, state = null) {
  if (problem.lacksScope) return "This key may not do that: it needs the scope admin.";
  if (problem.isOfOtherCalls) return `This key may not do that: ${sentence(problem)}`;
  if (problem.status === 409 && state) return `Somebody was faster: the call is ${label(state)} now.`;
  if (NOT_NOW.has(problem.status)) return `This may not have been done: ${sentence(problem)} Try again.`;
  return `This was not done: ${sentence(problem)}`;
}

function sentence({ message }) {
  return message.endsWith(".") ? message : `${message}.`;
}
