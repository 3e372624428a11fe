// A client generated from the API's description by openapi-typescript and openapi-fetch manages
// endpoints and events. BASE is the server, KEY an API key, RECEIVER a URL that answers 2xx.
// Prints "ok" at the end. The test also checks that it compiles in strict mode.
import assert from 'node:assert/strict';
import createClient from 'openapi-fetch';
import type { components, paths } from './description.js';

const env = (name: string): string => {
  const value = process.env[name];
  assert.ok(value, `${name} is not set`);
  return value;
};
const api = createClient<paths>({ baseUrl: env('BASE'), headers: { Authorization: `Bearer ${env('KEY')}` } });

// @ts-expect-error an endpoint needs a URL
const refused = await api.POST('/v1/webhooks', { body: { enabled_events: ['*'] } });
assert.equal(refused.response.status, 400);
assert.equal(refused.error?.error.param, 'url');
assert.equal(refused.error?.error.code, 'parameter_missing');

const made = await api.POST('/v1/webhooks', { body: { url: env('RECEIVER'), enabled_events: ['payment.*'], metadata: { order: '6735' } } });
assert.ok(made.data, JSON.stringify(made.error));
const endpoint: components['schemas']['WebhookEndpoint'] = made.data;
assert.match(endpoint.id, /^we_/);

const params = { path: { id: endpoint.id } };
const changed = await api.PATCH('/v1/webhooks/{id}', { params, body: { description: 'from a generated client' } });
assert.equal(changed.data?.description, 'from a generated client');

const since = Math.floor(Date.now() / 1000) - 60;
const sent = await api.POST('/v1/events', { body: { type: 'payment.succeeded', data: { object: { id: 'pay_1', amount: 2999 } } } });
assert.match(sent.data?.id ?? '', /^evt_/);
const events = await api.GET('/v1/events', { params: { query: { type: 'payment.*', limit: 1, created: { gte: since } } } });
assert.deepEqual(events.data?.data.map((e) => e.id), [sent.data?.id]);

for (let done = false; !done; ) {
  const list = await api.GET('/v1/deliveries', { params: { query: { endpoint: endpoint.id } } });
  assert.ok(list.data, JSON.stringify(list.error));
  const [delivery] = list.data.data;
  done = delivery?.status === 'succeeded';
  if (!done) await new Promise((resolve) => setTimeout(resolve, 50));
}

const missing = await api.GET('/v1/webhooks/{id}', { params: { path: { id: 'we_00000000000000000000' } } });
assert.equal(missing.response.status, 404);
const gone = await api.DELETE('/v1/webhooks/{id}', { params });
assert.equal(gone.data?.deleted, true);
console.log('ok');
