'use strict';

/**
 * Why a delivery or a key is refused. `code` is one of:
 * no_signature, malformed, bad_signature, too_old, too_new, bad_secret, bad_key.
 * Messages contain no keys, signatures or bodies.
 */
class WebhookError extends Error {
  constructor(code, message) {
    super(message);
    this.name = 'WebhookError';
    this.code = code;
  }
}

module.exports = { WebhookError };
