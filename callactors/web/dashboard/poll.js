// Work that is done again and again while somebody looks.

export class Poll {
  #work;
  #interval;
  #timer = 0;
  #isRunning = false;
  #isWanted = false;
  #due = Infinity; // when the next run is to begin, by performance.now()

  /** *work* is an async function that handles its own errors; *interval*, in milliseconds, counts from its end. */
  constructor(work, interval) {
    this.#work = work;
    this.#interval = interval;
  }

  start() {
    if (this.#isWanted) return;
    this.#isWanted = true;
    this.soon();
  }

  stop() {
    this.#isWanted = false;
    this.#due = Infinity;
    clearTimeout(this.#timer);
  }

  /** Do it at most *delay* milliseconds from now, or behind the run that is under way. */
  soon(delay = 0) {
    const due = performance.now() + delay;
    if (!this.#isWanted || due >= this.#due) return;
    this.#due = due;
    if (!this.#isRunning) this.#arm();
  }

  #arm() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#run(), Math.max(0, this.#due - performance.now()));
  }

  async #run() {
    this.#isRunning = true;
    this.#due = Infinity;
    try {
      await this.#work();
    } finally {
      this.#isRunning = false;
      this.#due = Math.min(this.#due, performance.now() + this.#interval);
      if (this.#isWanted) this.#arm();
    }
  }
}
