// A line of the last minutes, drawn with SVG.

import { draw } from "./elements.js";

const WIDTH = 120;
const HEIGHT = 28;
const SPAN = 5 * 60_000;
const SHORTEST = 60_000; // so that the first minute is more than a dot at the edge
const BREAK = 10_000; // a longer silence is shown as a hole

export class Chart {
  element;
  #samples = []; // [time, value]
  #line = draw("path", { class: "line" });
  #area = draw("path", { class: "area" });

  constructor() {
    const size = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" };
    this.element = draw("svg", { class: "chart", ...size }, this.#area, this.#line);
  }

  /** Add a value as of *at*, in milliseconds, and forget what is older than the chart is wide. */
  add(at, value) {
    if (value !== null && value !== undefined) this.#samples.push([at, value]);
    while (this.#samples.length && this.#samples[0][0] < at - SPAN) this.#samples.shift();
    this.#draw(at);
  }

  clear() {
    this.#samples = [];
    this.#draw(0);
  }

  #draw(at) {
    const top = Math.max(1e-9, ...this.#samples.map(([, value]) => value)) * 1.2;
    const span = Math.max(SHORTEST, at - (this.#samples[0]?.[0] ?? at));
    const runs = split(this.#samples).map((run) =>
      run.map(([time, value]) => [
        (WIDTH * (1 - (at - time) / span)).toFixed(1),
        (HEIGHT - 1 - (value / top) * (HEIGHT - 3)).toFixed(1),
      ]),
    );
    this.#line.setAttribute("d", runs.map((run) => `M${run.join("L")}`).join(""));
    this.#area.setAttribute("d", runs.map(under).join(""));
  }
}

function split(samples) {
  const runs = [];
  for (const sample of samples) {
    const run = runs.at(-1);
    if (run && sample[0] - run.at(-1)[0] <= BREAK) run.push(sample);
    else runs.push([sample]);
  }
  return runs;
}

function under(run) {
  return `M${run[0][0]},${HEIGHT}L${run.join("L")}L${run.at(-1)[0]},${HEIGHT}Z`;
}
