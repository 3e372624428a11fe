'use strict';

const crypto = require('node:crypto');
const { WebhookError } = require('./errors.cjs');
const { parseSecret, parsePublicKey, bytesOf, hmac, head, strictBase64, PUBLIC_PREFIX } = require('./sign.cjs');

const DEFAULT_TOLERANCE = 300; // seconds, in both directions
const MAX_SIGNATURES = 32;

/** Compares two strings of secrets in constant time for their length. */
function equal(given, want) {
  const a = Buffer.from(given, 'utf8');
  const b = Buffer.from(want, 'utf8');
  return a.length === b.length && crypto.timingSafeEqual(a, b);
}

/** Returns a header by name in any case, from node's, a plain object or a Headers; '' when it is absent. */
function headerOf(headers, name) {
  if (typeof headers.get === 'function') return headers.get(name) ?? '';
  const lower = name.toLowerCase();
  let value = headers[lower];
  if (value === undefined) {
    const key = Object.keys(headers).find((k) => k.toLowerCase() === lower);
    value = key === undefined ? undefined : headers[key];
  }
  if (Array.isArray(value)) value = value[0];
  return typeof value === 'string' ? value : '';
}

/** Verifies deliveries with one or more secrets ("whsec_…") and public keys ("whpk_…"). */
class Verifier {
  #secrets = [];
  #publicKeys = [];

  constructor(keys, options = {}) {
    const list = Array.isArray(keys) ? keys : [keys];
    if (list.length === 0) throw new WebhookError('bad_secret', 'A verifier needs a secret or a public key.');
    for (const key of list) {
      if (typeof key === 'string' && key.startsWith(PUBLIC_PREFIX)) this.#publicKeys.push(parsePublicKey(key));
      else this.#secrets.push(parseSecret(key));
    }
    this.tolerance = options.tolerance ?? DEFAULT_TOLERANCE;
    this.signatureHeader = options.signatureHeader ?? 'Payment-Signature';
    this.requireStandard = options.requireStandard ?? false;
    this.now = options.now ?? (() => Math.floor(Date.now() / 1000));
  }

  /**
   * Returns { id } if a signature matches the raw body; id is the webhook-id if a signature covers it, else ''.
   * Throws a WebhookError otherwise.
   */
  verify(headers, rawBody) {
    const body = bytesOf(rawBody);
    const list = headerOf(headers, 'webhook-signature');
    if (list !== '') {
      const id = headerOf(headers, 'webhook-id');
      this.#verifyStandard(id, headerOf(headers, 'webhook-timestamp'), list, body);
      return { id };
    }
    const plain = headerOf(headers, this.signatureHeader);
    if (plain === '' || this.requireStandard || this.#secrets.length === 0) {
      throw new WebhookError('no_signature', 'The request has no signature.');
    }
    this.#verifyPlain(plain, body);
    return { id: '' };
  }

  #verifyStandard(id, stamp, list, body) {
    if (id === '' || !/^[0-9]{1,12}$/.test(stamp)) throw malformed();
    const seconds = Number(stamp);
    const age = this.now() - seconds;
    if (age > this.tolerance) throw new WebhookError('too_old', 'The timestamp is too old.');
    if (-age > this.tolerance) throw new WebhookError('too_new', 'The timestamp is in the future.');
    if (list.split(',').length - 1 > MAX_SIGNATURES) throw malformed();
    const given = list.split(' ');
    for (const secret of this.#secrets) {
      const want = 'v1,' + hmac(secret.standard, head(id, seconds), body).digest('base64');
      if (given.some((g) => equal(g, want))) return;
    }
    if (this.#publicKeys.length > 0) {
      const content = Buffer.concat([head(id, seconds), body]);
      for (const g of given) {
        const signature = g.startsWith('v1a,') ? strictBase64(g.slice('v1a,'.length)) : null;
        if (signature === null || signature.length !== 64) continue;
        if (this.#publicKeys.some((key) => crypto.verify(null, content, key, signature))) return;
      }
    }
    throw badSignature();
  }

  #verifyPlain(given, body) {
    if (!/^[0-9a-fA-F]{64}$/.test(given)) throw malformed();
    for (const secret of this.#secrets) {
      if (equal(given, hmac(secret.plain, body).digest('hex'))) return;
    }
    throw badSignature();
  }
}

const malformed = () => new WebhookError('malformed', 'A signature header is malformed.');
const badSignature = () => new WebhookError('bad_signature', 'No signature matches the body and the keys.');

module.exports = { Verifier };
