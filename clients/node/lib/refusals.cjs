'use strict';

const DEFAULT_ALERT_WINDOW = 600; // seconds

/** Refusals counts refused deliveries in a sliding window. It stores at most alertAfter times. */
class Refusals {
  #after;
  #window;
  #at = []; // refusals since the last alert and within the window, oldest first, in seconds
  #alerted = -Infinity; // time of the last alert
  #total = 0; // refusals in alerts that followed one another within a window

  constructor(after = 0, window = DEFAULT_ALERT_WINDOW) {
    this.#after = after;
    this.#window = window > 0 ? window : DEFAULT_ALERT_WINDOW;
  }

  /** Records a refusal and returns the total to alert with, or 0. now is in Unix seconds. */
  add(now) {
    if (!(this.#after > 0)) return 0;
    const kept = this.#at.findIndex((at) => now - at <= this.#window);
    this.#at.splice(0, kept < 0 ? this.#at.length : kept);
    this.#at.push(now);
    if (this.#at.length < this.#after) return 0;
    if (now - this.#alerted > this.#window) this.#total = 0;
    this.#total += this.#at.length;
    this.#alerted = now;
    this.#at = [];
    return this.#total;
  }
}

module.exports = { Refusals };
