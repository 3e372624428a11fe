// Unmodified stripe-node manages endpoints. BASE is the server, KEY an API key.
// Prints "ok" at the end; any assertion that fails ends the process with its text.
import assert from 'node:assert/strict';
import Stripe from 'stripe';

const base = new URL(process.env.BASE);
const options = { host: base.hostname, port: base.port, protocol: 'http', telemetry: false, maxNetworkRetries: 1 };
const stripe = new Stripe(process.env.KEY, options);

const created = await stripe.webhookEndpoints.create({
  url: 'https://example.com/webhooks/stripe',
  enabled_events: ['payment.succeeded', 'refund.created'],
  description: 'managed by stripe-node & friends = 100 %',
  metadata: { order: '6735', 'a b': 'c&d' },
  api_version: '2025-03-31.basil',
  connect: false,
});
await assert.rejects(
  stripe.webhookEndpoints.create({ url: 'https://example.com', enabled_events: ['*'], connect: true }),
  (e) => e.param === 'connect',
);
assert.match(created.id, /^we_/);
assert.match(created.secret, /^whsec_/);
assert.deepEqual(created.enabled_events, ['payment.succeeded', 'refund.created']);
assert.equal(created.description, 'managed by stripe-node & friends = 100 %');
assert.deepEqual(created.metadata, { order: '6735', 'a b': 'c&d' });

const got = await stripe.webhookEndpoints.retrieve(created.id);
assert.equal(got.url, created.url);
assert.equal(got.secret, undefined);

const updated = await stripe.webhookEndpoints.update(created.id, { disabled: true, enabled_events: ['*'], metadata: { order: '' } });
assert.equal(updated.status, 'disabled');
assert.deepEqual(updated.enabled_events, ['*']);
assert.deepEqual(updated.metadata, { 'a b': 'c&d' });

for (let i = 0; i < 5; i++) {
  await stripe.webhookEndpoints.create({ url: `https://example.com/${i}`, enabled_events: ['*'] });
}
const page = await stripe.webhookEndpoints.list({ limit: 2 });
assert.equal(page.data.length, 2);
assert.equal(page.has_more, true);
const all = [];
for await (const e of stripe.webhookEndpoints.list({ limit: 2 })) all.push(e.id);
assert.equal(all.length, 6);
assert.equal(new Set(all).size, 6);
assert.equal(all.at(-1), created.id);

const deleted = await stripe.webhookEndpoints.del(created.id);
assert.equal(deleted.deleted, true);
await assert.rejects(stripe.webhookEndpoints.retrieve(created.id), (e) => e.statusCode === 404);

await assert.rejects(
  stripe.webhookEndpoints.create({ url: 'ftp://example.com', enabled_events: ['*'] }),
  (e) => e instanceof Stripe.errors.StripeInvalidRequestError && e.param === 'url' && e.requestId.startsWith('req_'),
);
await assert.rejects(
  new Stripe('sk_test_nobodyknowsthiskey', options).webhookEndpoints.list(),
  (e) => e instanceof Stripe.errors.StripeAuthenticationError,
);

const sent = await stripe.rawRequest('POST', '/v1/events', { type: 'payment.succeeded', data: { object: { id: 'pay_1' } } });
const event = await stripe.events.retrieve(sent.id);
assert.equal(event.object, 'event');
assert.equal(event.data.object.id, 'pay_1');
const events = await stripe.events.list({ type: 'payment.succeeded', limit: 3 });
assert.equal(events.data[0].id, sent.id);
const several = await stripe.events.list({ types: ['payment.failed', 'payment.succeeded'], delivery_success: false });
assert.equal(several.data[0].id, sent.id); // example.com/0 to 4 do not answer
assert.equal((await stripe.events.list({ types: ['payment.failed'] })).data.length, 0);
console.log('ok');
