'use strict';

const crypto = require('node:crypto');
const { WebhookError } = require('./errors.cjs');

const SECRET_PREFIX = 'whsec_';
const PRIVATE_PREFIX = 'whsk_';
const PUBLIC_PREFIX = 'whpk_';

// The DER prefix of a key, before its 32 bytes (RFC 8410).
const PKCS8 = Buffer.from('302e020100300506032b657004220420', 'hex');
const SPKI = Buffer.from('302a300506032b6570032100', 'hex');

/** Decodes standard base64 with padding, without white space; null if invalid. */
function strictBase64(text) {
  if (!/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(text)) return null;
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text ? bytes : null;
}

/** Bytes of a body: a Buffer or Uint8Array unchanged, a string in UTF-8. */
function bytesOf(body) {
  if (typeof body === 'string') return Buffer.from(body, 'utf8');
  if (body instanceof Uint8Array) return body;
  throw new TypeError('The body must be the raw bytes (Buffer or Uint8Array) or a string, not a parsed object.');
}

/** Reads "whsec_…" into the keys of both schemes. */
function parseSecret(secret) {
  const encoded = typeof secret === 'string' && secret.startsWith(SECRET_PREFIX) ? secret.slice(SECRET_PREFIX.length) : '';
  const key = encoded === '' ? null : strictBase64(encoded);
  if (key === null) throw new WebhookError('bad_secret', 'A secret must be "whsec_" followed by standard base64.');
  return { plain: Buffer.from(secret, 'utf8'), standard: key };
}

function parsePrivateKey(text) {
  const raw = typeof text === 'string' && text.startsWith(PRIVATE_PREFIX) ? strictBase64(text.slice(PRIVATE_PREFIX.length)) : null;
  if (raw === null || (raw.length !== 32 && raw.length !== 64)) throw badKey();
  const key = crypto.createPrivateKey({ key: Buffer.concat([PKCS8, raw.subarray(0, 32)]), format: 'der', type: 'pkcs8' });
  // A signature with a wrong public key would reveal the private key.
  const own = crypto.createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(SPKI.length);
  if (raw.length === 64 && !own.equals(raw.subarray(32))) throw badKey();
  return key;
}

function parsePublicKey(text) {
  const raw = typeof text === 'string' && text.startsWith(PUBLIC_PREFIX) ? strictBase64(text.slice(PUBLIC_PREFIX.length)) : null;
  if (raw === null || raw.length !== 32) throw badKey();
  try {
    return crypto.createPublicKey({ key: Buffer.concat([SPKI, raw]), format: 'der', type: 'spki' });
  } catch {
    throw badKey();
  }
}

function badKey() {
  return new WebhookError('bad_key', 'A key must be "whsk_" or "whpk_" followed by standard base64 of an Ed25519 key.');
}

function hmac(key, ...parts) {
  const h = crypto.createHmac('sha256', key);
  for (const part of parts) h.update(part);
  return h;
}

function head(id, timestamp) {
  return Buffer.from(`${id}.${timestamp}.`, 'utf8');
}

/** The value of Payment-Signature: 64 lower-case hex digits. */
function sign(secret, body) {
  return hmac(Buffer.from(secret, 'utf8'), bytesOf(body)).digest('hex');
}

/** One signature of webhook-signature, "v1," included. timestamp is in Unix seconds. */
function signStandard(secret, id, timestamp, body) {
  return 'v1,' + hmac(parseSecret(secret).standard, head(id, timestamp), bytesOf(body)).digest('base64');
}

/** One signature of webhook-signature with an Ed25519 private key ("whsk_…"), "v1a," included. */
function signEd25519(privateKey, id, timestamp, body) {
  const content = Buffer.concat([head(id, timestamp), bytesOf(body)]);
  return 'v1a,' + crypto.sign(null, content, parsePrivateKey(privateKey)).toString('base64');
}

module.exports = { sign, signStandard, signEd25519, parseSecret, parsePublicKey, bytesOf, hmac, head, strictBase64, SECRET_PREFIX, PUBLIC_PREFIX };
