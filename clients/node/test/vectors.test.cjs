'use strict';

// The vectors for the libraries in every language.
const test = require('node:test');
const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { sign, signStandard, signEd25519, Verifier, WebhookError } = require('..');
const { Receiver } = require('../lib/receiver.cjs');

const file = JSON.parse(fs.readFileSync(path.join(__dirname, '../../../webhook/testdata/vectors.json'), 'utf8'));

test('the file is whole', () => {
  for (const part of ['vectors', 'ed25519', 'deliveries', 'secrets_refused', 'keys_refused', 'alerts']) assert.ok(file[part]?.length > 0, part);
  const official = file.vectors.find((v) => v.name === 'the official Standard Webhooks vector');
  assert.equal(official.standard, 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=');
  const accepted = file.deliveries.filter((d) => d.accepted).length;
  assert.ok(accepted > 0 && accepted < file.deliveries.length);
});

for (const v of file.vectors) {
  test(`signs: ${v.name}`, () => {
    for (const body of [v.body, Buffer.from(v.body), new Uint8Array(Buffer.from(v.body))]) {
      assert.equal(sign(v.secret, body), v.plain);
      assert.equal(signStandard(v.secret, v.id, v.timestamp, body), v.standard);
    }
  });
}

for (const v of file.ed25519) {
  test(`signs with Ed25519: ${v.name}`, () => {
    assert.equal(signEd25519(v.private, v.id, v.timestamp, v.body), v.standard);
    const headers = { 'webhook-id': v.id, 'webhook-timestamp': String(v.timestamp), 'webhook-signature': v.standard };
    assert.deepEqual(new Verifier(v.public, { now: () => v.timestamp }).verify(headers, v.body), { id: v.id });
  });
}

for (const d of file.deliveries) {
  test(`${d.accepted ? 'accepts' : 'refuses'}: ${d.name}`, () => {
    const verifier = new Verifier(d.secrets, { now: () => d.now });
    const verify = (headers) => verifier.verify(headers, Buffer.from(d.body));
    const upper = Object.fromEntries(Object.entries(d.headers).map(([k, v]) => [k.toUpperCase(), v]));
    for (const headers of [d.headers, upper, new Headers(d.headers)]) {
      if (d.accepted) verify(headers);
      else assert.throws(() => verify(headers), WebhookError);
    }
  });
}

for (const a of file.alerts) {
  test(`alerts: ${a.name}`, () => {
    const secret = file.vectors[1].secret;
    let now;
    const alerts = [];
    const receiver = new Receiver(new Verifier(secret, { now: () => now }), {
      logger: { warn() {} },
      alertAfter: a.alert_after,
      alertWindow: a.alert_window || undefined,
      alert: (n) => alerts.push([now, n]),
    });
    const forged = { 'Payment-Signature': '0'.repeat(64) };
    const genuine = { 'Payment-Signature': sign(secret, '{}') };
    for (const step of a.steps) {
      now = step.at;
      for (let i = 0; i < step.forged; i++) assert.throws(() => receiver.verify(forged, '{}'), { code: 'bad_signature' });
      for (let i = 0; i < step.genuine; i++) receiver.verify(genuine, '{}');
    }
    assert.deepEqual(alerts, a.alerts);
  });
}

test('refuses an invalid secret', () => {
  for (const s of [...file.secrets_refused, undefined, null, 7]) {
    assert.throws(() => new Verifier(s), (err) => err.code === 'bad_secret' && !(s && String(s).length > 8 && err.message.includes(String(s))), JSON.stringify(s));
  }
  assert.throws(() => new Verifier([]), { code: 'bad_secret' });
});

test('refuses an invalid key', () => {
  for (const s of file.keys_refused) assert.throws(() => new Verifier(s), WebhookError, JSON.stringify(s));
  const [a, b] = file.ed25519.filter((v) => v.private.length > 60);
  const other = file.ed25519.find((v) => v.public !== a.public);
  const mixed = 'whsk_' + Buffer.concat([Buffer.from(a.private.slice(5), 'base64').subarray(0, 32), Buffer.from(other.public.slice(5), 'base64')]).toString('base64');
  for (const bad of ['', 'whsk_', b.public, mixed]) assert.throws(() => signEd25519(bad, 'a', 1, ''), { code: 'bad_key' }, bad);
});

test('says why', () => {
  const v = file.vectors[1];
  const verifier = new Verifier(v.secret, { now: () => v.timestamp });
  const good = { 'webhook-id': v.id, 'webhook-timestamp': String(v.timestamp), 'webhook-signature': v.standard };
  const code = (want, headers, body = v.body, on = verifier) =>
    assert.throws(() => on.verify(headers, body), (err) => err instanceof WebhookError && err.code === want && !err.message.includes(v.secret.slice(6)), want);
  verifier.verify(good, v.body);
  code('no_signature', {});
  code('no_signature', { 'Payment-Signature': v.plain }, v.body, new Verifier(v.secret, { requireStandard: true }));
  code('malformed', { ...good, 'webhook-id': '' });
  code('malformed', { ...good, 'webhook-timestamp': '1e5' });
  code('malformed', { ...good, 'webhook-timestamp': '9999999999999' });
  code('malformed', { ...good, 'webhook-signature': 'v1,x '.repeat(33) });
  code('malformed', { 'Payment-Signature': 'x' });
  code('bad_signature', good, v.body + ' ');
  code('bad_signature', { 'Payment-Signature': v.plain }, v.body + ' ');
  code('too_old', good, v.body, new Verifier(v.secret, { now: () => v.timestamp + 301 }));
  code('too_new', good, v.body, new Verifier(v.secret, { now: () => v.timestamp - 301 }));
  new Verifier(v.secret, { now: () => v.timestamp + 301, tolerance: 301 }).verify(good, v.body);
  new Verifier(v.secret, { signatureHeader: 'Acme-Signature' }).verify({ 'acme-signature': v.plain }, v.body);
  assert.throws(() => verifier.verify(good, JSON.parse(v.body)), TypeError);
});

test('survives any header', () => {
  let seed = 1;
  const random = (n) => (seed = (seed * 48271) % 2147483647) % n;
  const alphabet = ['v1,', 'v1a,', ' ', ',', '=', 'A', '/', '+', '0', '-', '\u0000', 'é', '😀', '\n'];
  const word = () => Array.from({ length: random(40) }, () => alphabet[random(alphabet.length)]).join('');
  const verifier = new Verifier([file.vectors[1].secret, file.ed25519[0].public], { now: () => 1000 });
  for (let i = 0; i < 20000; i++) {
    const headers = { 'webhook-id': word(), 'webhook-timestamp': random(2) ? '1000' : word(), 'webhook-signature': word(), 'payment-signature': word() };
    assert.throws(() => verifier.verify(headers, word()), WebhookError);
  }
});
