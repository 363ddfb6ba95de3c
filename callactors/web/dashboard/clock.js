// The server's time: ages and countdowns must not depend on how this computer's clock is set.

const SET_ANEW = 3_000;

let offset = null;

/** Now, in milliseconds since 1970, by the server's clock. */
export function now() {
  return Date.now() + (offset ?? 0);
}

/**
 * Learn from a server's time that was told in the answer to a request sent at *sentAt*, by Date.now().
 * Figures may be up to a second old when they are told, so the largest offset is the nearest to the truth.
 */
export function learn(at, sentAt) {
  const measured = Date.parse(at) - (sentAt + Date.now()) / 2;
  if (Number.isNaN(measured)) return;
  if (offset === null || measured > offset || measured < offset - SET_ANEW) offset = measured;
}
