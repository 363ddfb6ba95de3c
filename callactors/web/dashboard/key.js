// The key that opens the server, if it asks for one: kept for this tab's session, and nowhere else.

const NAME = "callactors.key";
const SENDABLE = /^[\w!#$%&'*+.^`|~-]{1,512}$/; // a token, RFC 9110, 5.6.2: a subprotocol can be nothing else

let held = load();

/** The key, or null. */
export function current() {
  return held;
}

/** Whether *text* could be sent as a key at all. */
export function isSendable(text) {
  return SENDABLE.test(text);
}

/** Keep a key until the tab is closed. */
export function keep(text) {
  held = text;
  try {
    sessionStorage.setItem(NAME, text);
  } catch {
    // storage is switched off: it lasts until the next load
  }
}

export function forget() {
  held = null;
  try {
    sessionStorage.removeItem(NAME);
  } catch {
    // then it is not there
  }
}

function load() {
  try {
    return sessionStorage.getItem(NAME);
  } catch {
    return null;
  }
}
