// Requests to the server, relative to the document, so that any prefix works; the one place that sends the key.

import * as key from "./key.js";

const PATIENCE = 10_000;

let underWay = new AbortController();
let onRefused = () => {};

/** An answer that is no 2xx, as the server's problem details put it. Status 0: no answer. */
export class Problem extends Error {
  /** *kind* is the last part of the problem's type: "unknown-call". */
  constructor(status, detail, kind = "") {
    super(detail);
    this.status = status;
    this.kind = kind;
  }

  /** Whether another key is needed, or a key at all. */
  get needsKey() {
    return this.status === 401 || this.lacksScope;
  }

  /** Whether the key opens the server, but not this. */
  get lacksScope() {
    return this.kind === "insufficient-scope";
  }

  /** Whether the key opens the server, but not these calls. */
  get isOfOtherCalls() {
    return this.kind === "call-not-allowed";
  }
}

/** Call *callback* with each Problem that needs a key, beside throwing it. */
export function whenRefused(callback) {
  onRefused = callback;
}

/** Let no answer that is under way arrive: it was asked with a key that does not count any more. */
export function abandon() {
  underWay.abort();
  underWay = new AbortController();
}

/** The address of *path* under the document's own, with *parameters*: pairs of name and value. */
export function address(path, parameters = []) {
  const url = new URL(path, document.baseURI);
  url.search = new URLSearchParams(parameters);
  url.hash = "";
  return url;
}

/** Get JSON. Integers beyond 2^53 come as BigInt where the browser can tell them. Throws a Problem. */
export async function get(path, parameters = []) {
  const { signal } = underWay;
  try {
    return await ask(address(path, parameters), { held: key.current(), signal });
  } catch (problem) {
    if (problem.needsKey && !signal.aborted) onRefused(problem);
    throw problem;
  }
}

/** Do something, and return what the server answers. A scope that lacks is told, and is no reason to ask for a key. */
export async function post(path, parameters = [], patience = PATIENCE) {
  const { signal } = underWay;
  try {
    return await ask(address(path, parameters), { method: "POST", held: key.current(), signal, patience });
  } catch (problem) {
    if (problem.status === 401 && !signal.aborted) onRefused(problem);
    throw problem;
  }
}

/** Whether *text* opens what this page shows; null: no key. Throws a Problem if not, or if that cannot be known. */
export async function tryKey(text) {
  try {
    await ask(address("v1/stats"), { held: text });
  } catch (problem) {
    if (!problem.isOfOtherCalls) throw problem;
  }
}

async function ask(url, { method = "GET", held, signal = new AbortController().signal, patience = PATIENCE }) {
  const headers = { Accept: "application/json" };
  if (held !== null) headers.Authorization = `Bearer ${held}`;
  let response, text;
  try {
    const signals = AbortSignal.any([signal, AbortSignal.timeout(patience)]);
    response = await fetch(url, { method, headers, cache: "no-store", signal: signals });
    text = await response.text();
    signal.throwIfAborted();
  } catch {
    throw new Problem(0, "The server does not answer.");
  }
  if (!response.ok) throw problemOf(response.status, text);
  try {
    return parse(text);
  } catch {
    throw new Problem(response.status, "The server's answer is not JSON.");
  }
}

/** The path of one call, whatever characters its id has. */
export function callPath(callId, part = "") {
  return `v1/call/${encodeURIComponent(callId)}${part}`;
}

/** JSON.parse that keeps every digit of large integers, where the browser hands the source on. */
export function parse(text) {
  return JSON.parse(text, (_, value, context) =>
    typeof value === "number" && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? "")
      ? BigInt(context.source)
      : value,
  );
}

function problemOf(status, text) {
  const { detail, title, type } = factsOf(text);
  const words = [detail, title].find((word) => typeof word === "string");
  return new Problem(status, words ?? `The server answers ${status}.`, String(type ?? "").split("/").at(-1));
}

function factsOf(text) {
  try {
    return Object(JSON.parse(text));
  } catch {
    return {};
  }
}
