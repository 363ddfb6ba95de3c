// The picture of a stream's sequence: what came, and where something is missing.

import { draw, make } from "./elements.js";
import { counted, digits } from "./words.js";

const WIDTH = 1000;
const HEIGHT = 20;
const NARROWEST = 3; // one missing packet of a million must be seen, too
const NAMED = 12;

/** Draw *stream*, one of a call's `streams`. */
export function pictureOf(name, stream) {
  const missing = stream.missing.map(([first, last]) => [BigInt(first), BigInt(last)]);
  const highest = BigInt(stream.highest);
  const heading = make("h3", {}, ...(name === "" ? ["Default stream"] : ["Stream ", make("code", {}, name)]));
  const scale = make("p", { class: "scale" }, make("span", {}, "1"), make("span", {}, digits(highest)));
  return make("div", { class: "stream" }, heading, bar(missing, highest), scale, words(missing, stream));
}

function bar(missing, highest) {
  const size = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" };
  const whole = draw("rect", { class: "came", width: highest > 0n ? WIDTH : 0, height: HEIGHT });
  return draw("svg", { class: "gaps", ...size }, whole, ...missing.map(([first, last]) => hole(first, last, highest)));
}

function hole(first, last, highest) {
  const scale = WIDTH / Number(highest);
  const width = Math.max(NARROWEST, Number(last - first + 1n) * scale);
  const left = Math.min(Number(first - 1n) * scale, WIDTH - width);
  return draw("rect", { class: "hole", x: left.toFixed(2), width: width.toFixed(2), height: HEIGHT });
}

function words(missing, stream) {
  if (!missing.length) return make("p", { class: "quiet" }, "Nothing is missing.");
  const named = missing.slice(0, NAMED).map(([first, last]) =>
    first === last ? digits(first) : `${digits(first)} to ${digits(last)}`,
  );
  const rest = missing.length > NAMED ? ` and ${counted(missing.length - NAMED, "more range")}` : "";
  const total = stream.missing_count ?? missing.reduce((sum, [first, last]) => sum + last - first + 1n, 0n);
  return make("p", {}, make("strong", {}, `${digits(total)} missing: `), named.join(", ") + rest);
}
