// The figures on top, each with its last minutes.

import { Chart } from "./chart.js";
import { make, setText } from "./elements.js";
import { count, label, seconds } from "./words.js";

const RATE = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

const TILES = [
  { name: "in-progress", word: label("IN_PROGRESS"), of: (s) => s.states.IN_PROGRESS, show: count },
  { name: "completed", word: label("COMPLETED"), of: (s) => s.states.COMPLETED, show: count },
  { name: "processing", word: label("PROCESSING_AI"), of: (s) => s.states.PROCESSING_AI, show: count },
  { name: "retrying", word: "Waiting to retry", of: (s) => s.retrying, show: count },
  { name: "packets", word: "Packets per second", of: (s) => s.packets_per_second, show: rate },
  { name: "p95", word: "AI step, p95", of: (s) => s.attempt_seconds.p95, show: seconds },
  { name: "archived", word: "Archived, last hour", of: (s) => s.ended.ARCHIVED, show: atLeast },
  { name: "failed", word: "Failed, last hour", of: (s) => s.failed_last_hour, show: atLeast },
];

export class Tiles {
  #list;
  #tiles;

  constructor(list) {
    this.#list = list;
    this.#tiles = TILES.map((tile) => ({ ...tile, value: make("strong", {}, "–"), chart: new Chart() }));
    list.append(
      ...this.#tiles.map(({ name, word, value, chart }) =>
        make("li", { class: "tile", "data-name": name }, make("span", {}, word), value, chart.element),
      ),
    );
  }

  /** Show what GET v1/stats tells. */
  show(stats) {
    const at = Date.parse(stats.at);
    this.#list.classList.remove("stale");
    for (const { of, show, value, chart } of this.#tiles) {
      const figure = of(stats) ?? null;
      setText(value, show(figure, stats.ended_is_bounded));
      chart.add(at, figure);
    }
  }

  clear() {
    for (const { value, chart } of this.#tiles) {
      setText(value, "–");
      chart.clear();
    }
  }

  /** Say that the figures are old. */
  age() {
    this.#list.classList.add("stale");
  }
}

function rate(value) {
  if (value === null) return "–";
  return value < 100 ? RATE.format(value) : count(Math.round(value));
}

function atLeast(value, isBounded) {
  return isBounded ? `${count(value)}+` : count(value);
}
