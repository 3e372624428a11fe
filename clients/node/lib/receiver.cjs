'use strict';

const { Refusals } = require('./refusals.cjs');

const DEFAULT_MAX_BODY = 1 << 20;

/**
 * Receiver is the common part of the middlewares: it verifies deliveries, counts refused ones, and ensures that
 * an event is processed by one request at a time, and not again afterwards.
 */
class Receiver {
  #running = new Map(); // by event id: a promise that resolves when the processing ends
  #refusals;

  constructor(verifier, options = {}) {
    this.verifier = verifier;
    this.seen = options.seen;
    this.maxBody = options.maxBody ?? DEFAULT_MAX_BODY;
    this.logger = options.logger ?? console;
    this.alert = options.alert;
    this.#refusals = new Refusals(options.alertAfter, options.alertWindow);
  }

  /** Returns { id, event }: the event's id, '' if unknown, and the parsed body, undefined if it is not JSON. Throws when it is refused. */
  verify(headers, rawBody, remote) {
    let signed;
    try {
      signed = this.verifier.verify(headers, rawBody);
    } catch (err) {
      this.#refused(err, remote);
      throw err;
    }
    let event;
    try {
      event = JSON.parse(Buffer.from(rawBody).toString('utf8'));
    } catch {
      event = undefined;
    }
    // Both schemes sign the id in the body; only one signs webhook-id.
    const id = event !== null && typeof event === 'object' && typeof event.id === 'string' && event.id !== '' ? event.id : signed.id;
    return { id, event };
  }

  #refused(err, remote) {
    this.logger.warn(`webhook refused: ${err.message}`, { code: err.code, remote });
    const refused = this.#refusals.add(this.verifier.now());
    if (refused > 0) this.alert?.(refused);
  }

  /**
   * Waits until no other request processes the event, then returns 'new' and claims it until release is called, or returns
   * 'done' when it was processed before. Returns 'gone' when gone() becomes true meanwhile. Throws when the store fails.
   */
  async claim(id, gone) {
    if (!this.seen || id === '') return { state: 'new', release: async () => {} };
    while (this.#running.has(id)) {
      await this.#running.get(id);
      if (gone()) return { state: 'gone', release: async () => {} };
    }
    let end;
    this.#running.set(id, new Promise((resolve) => (end = resolve)));
    const free = () => {
      this.#running.delete(id);
      end();
    };
    let done;
    try {
      done = await this.seen.processed(id);
    } catch (err) {
      free();
      this.logger.error('look up processed event', { event: id, err: err.message });
      throw err;
    }
    if (done) {
      free();
      return { state: 'done', release: async () => {} };
    }
    let released = false;
    const release = async (processed) => {
      if (released) return;
      released = true;
      try {
        if (processed) await this.seen.markProcessed(id);
      } catch (err) {
        this.logger.error('remember processed event', { event: id, err: err.message });
      } finally {
        free();
      }
    };
    return { state: 'new', release };
  }
}

class TooLarge extends Error {}

/** Reads a complete request. */
function readBody(req, maxBody) {
  return new Promise((resolve, reject) => {
    const chunks = [];
    let size = 0;
    req.on('data', (chunk) => {
      size += chunk.length;
      if (size > maxBody) {
        req.pause();
        reject(new TooLarge());
        return;
      }
      chunks.push(chunk);
    });
    req.on('end', () => resolve(Buffer.concat(chunks)));
    req.on('error', reject);
    req.on('close', () => reject(new Error('the request was aborted')));
  });
}

module.exports = { Receiver, readBody, TooLarge };
