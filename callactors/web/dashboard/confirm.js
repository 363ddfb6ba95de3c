// The question before something is done: a dialog that says what will happen, with two answers.

import { find, setText } from "./elements.js";

const dialog = find("confirm");

let settle = null; // of the question that is open

/** Ask, about *subject* if there is one. Returns whether the answer is *yes*; Escape is *no*. */
export function ask({ title, subject = "", text, yes, no = "Cancel" }) {
  dismiss();
  setText(find("confirm-title"), title);
  setText(find("confirm-subject"), subject);
  setText(find("confirm-text"), text);
  setText(find("confirm-yes"), yes);
  setText(find("confirm-no"), no);
  return new Promise((resolve) => {
    settle = resolve;
    dialog.showModal();
    find("confirm-no").focus();
  });
}

/** Close the question, if one is open, as if the answer were no. */
export function dismiss() {
  answer(false);
}

/** The dialog gives the focus back to where it was, and keeps nothing of what it asked about. */
function answer(isYes) {
  const resolve = settle;
  settle = null;
  if (dialog.open) dialog.close();
  for (const part of ["title", "subject", "text"]) setText(find(`confirm-${part}`), "");
  resolve?.(isYes);
}

find("confirm-yes").addEventListener("click", () => answer(true));
find("confirm-no").addEventListener("click", () => answer(false));
dialog.addEventListener("close", () => dialog.open || answer(false));
