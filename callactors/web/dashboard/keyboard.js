// Keys: / searches, j and k move, Enter opens (the row's link has the focus), Esc goes back.

/** Bind the keys. *search* is the field; *links* returns the rows' links in order; *back* leaves a call or a search. */
export function bind({ search, isBoard, links, back }) {
  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]")) return; // what is typed there is not for the page
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const isTyping = event.target === search;
    if (event.key === "Escape") back(isTyping);
    else if (isTyping || !isBoard()) return;
    else if (event.key === "/") search.select();
    else if (event.key === "j") move(links(), 1);
    else if (event.key === "k") move(links(), -1);
    else return;
    event.preventDefault();
  });
  search.addEventListener("focus", () => search.select());
}

function move(links, step) {
  const index = links.indexOf(document.activeElement);
  const next = index < 0 ? (step > 0 ? 0 : -1) : Math.min(Math.max(index + step, 0), links.length - 1);
  const link = links.at(next);
  if (!link) return;
  link.focus({ preventScroll: true });
  link.closest("tr").scrollIntoView({ block: "nearest" });
}
