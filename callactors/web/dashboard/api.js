// Requests to the read side, relative to the document, so that any prefix works.

const PATIENCE = 10_000;

/** An answer that is no 2xx, as the server's problem details put it. Status 0: no answer. */
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }

  get isRefused() {
    return this.status === 401 || this.status === 403;
  }
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
  let response, text;
  try {
    response = await fetch(address(path, parameters), {
      headers: { Accept: "application/json" },
      cache: "no-store",
      signal: AbortSignal.timeout(PATIENCE),
    });
    text = await response.text();
  } catch {
    throw new Problem(0, "The server does not answer.");
  }
  if (!response.ok) throw new Problem(response.status, detailOf(text) ?? `The server answers ${response.status}.`);
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

function detailOf(text) {
  try {
    const { detail, title } = JSON.parse(text);
    return typeof detail === "string" ? detail : title;
  } catch {
    return undefined;
  }
}
