// The server's time: ages and countdowns must not depend on how this computer's clock is set.

let offset = 0;
let certainty = Infinity; // milliseconds that the offset may be wrong by

/** Now, in milliseconds since 1970, by the server's clock. */
export function now() {
  return Date.now() + offset;
}

/** Learn from a server's time that was told in the answer to a request sent at *sentAt*, by Date.now(). */
export function learn(at, sentAt) {
  const told = Date.parse(at);
  if (Number.isNaN(told)) return;
  const receivedAt = Date.now();
  const doubt = (receivedAt - sentAt) / 2;
  const measured = told - (sentAt + receivedAt) / 2;
  if (doubt <= certainty || Math.abs(measured - offset) > certainty + doubt) {
    offset = measured;
    certainty = Math.max(doubt, 5);
  }
}
