// Runs before the first paint, so that a chosen theme does not flash in the other one.
"use strict";

(() => {
  const root = document.documentElement;
  const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");

  function chosen() {
    try {
      return localStorage.getItem("callactors.theme");
    } catch {
      return null; // storage is switched off: the system's theme it is
    }
  }

  function keep(theme) {
    try {
      localStorage.setItem("callactors.theme", theme);
    } catch {
      // it lasts until the next load
    }
  }

  function apply(theme) {
    if (theme === "dark" || theme === "light") root.dataset.theme = theme;
  }

  function isDark() {
    return root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches;
  }

  apply(chosen());
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const show = () => button.setAttribute("aria-pressed", String(isDark()));
    button.addEventListener("click", () => {
      apply(isDark() ? "light" : "dark");
      keep(root.dataset.theme);
      show();
    });
    prefersDark.addEventListener("change", show);
    show();
  });
})();
