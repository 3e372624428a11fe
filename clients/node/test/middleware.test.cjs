'use strict';

// Real servers of each framework on loopback.
const test = require('node:test');
const assert = require('node:assert/strict');
const http = require('node:http');
const { Verifier, MemoryStore, sign, signStandard, expressMiddleware, httpHandler, fastifyPlugin, keepRawBody } = require('..');

const secret = 'whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=';
const now = 1699564800;
const verifier = () => new Verifier(secret, { now: () => now });
const payload = (id, more = {}) => JSON.stringify({ id, type: 'payment.succeeded', created: now, data: { object: more } });

function signed(body, id = 'evt_1') {
  return {
    'Content-Type': 'application/json',
    'Payment-Signature': sign(secret, body),
    'webhook-id': id,
    'webhook-timestamp': String(now),
    'webhook-signature': signStandard(secret, id, now, body),
  };
}

const quiet = () => {
  const lines = [];
  const log = (message, detail) => lines.push(message + JSON.stringify(detail ?? {}));
  return { lines, warn: log, error: log };
};

// Each framework's way to serve handle(body, rawBody, id), which returns a status, under /hooks.
const frameworks = {
  async 'node:http'(handle, options) {
    const listener = httpHandler(verifier(), async (req, res) => {
      res.statusCode = await handle(req.body, req.rawBody, req.webhook.id);
      res.end('handled');
    }, options);
    const server = http.createServer(listener);
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    return { url: `http://127.0.0.1:${server.address().port}/hooks`, close: () => new Promise((r) => (server.closeAllConnections(), server.close(r))) };
  },
  'Express 5': (handle, options) => express(require('express'), handle, options),
  'Express 4': (handle, options) => express(require('express4'), handle, options),
  'Express 5 behind express.raw': (handle, options) => express(require('express'), handle, options, (e) => e.raw({ type: '*/*' })),
  'Express 4 behind express.raw': (handle, options) => express(require('express4'), handle, options, (e) => e.raw({ type: '*/*' })),
  'Express 5 behind express.json that keeps the bytes': (handle, options) => express(require('express'), handle, options, (e) => e.json({ verify: keepRawBody })),
  async Fastify(handle, options) {
    const app = require('fastify')();
    app.register(async (scope) => {
      scope.register(fastifyPlugin, { verifier: verifier(), ...options });
      scope.post('/hooks', async (request, reply) => {
        reply.code(await handle(request.body, request.rawBody, request.webhook.id));
        return 'handled';
      });
    });
    // Outside the webhooks' scope, JSON is still parsed.
    app.post('/other', async (request) => ({ parsed: typeof request.body === 'object' }));
    const url = await app.listen({ port: 0, host: '127.0.0.1' });
    return { url: `${url}/hooks`, other: `${url}/other`, close: () => (app.server.closeAllConnections(), app.close()) };
  },
};

async function express(lib, handle, options, before) {
  const app = lib();
  if (before) app.use(before(lib));
  app.post('/hooks', expressMiddleware(verifier(), options), async (req, res, next) => {
    try {
      res.status(await handle(req.body, req.rawBody, req.webhook.id)).send('handled');
    } catch (err) {
      next(err);
    }
  });
  app.use((_err, _req, res, _next) => res.status(500).send('failed'));
  const server = app.listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  return { url: `http://127.0.0.1:${server.address().port}/hooks`, close: () => new Promise((r) => (server.closeAllConnections(), server.close(r))) };
}

const post = (url, body, headers) => fetch(url, { method: 'POST', body, headers });

for (const [name, serve] of Object.entries(frameworks)) {
  test(name, async (t) => {
    const logger = quiet();
    const alerts = [];
    const calls = [];
    let answer = async () => 200;
    const seen = new MemoryStore();
    const server = await serve(
      (body, raw, id) => {
        calls.push({ body, raw: raw.toString('utf8'), id });
        return answer();
      },
      { seen, logger, alertAfter: 2, alert: (n) => alerts.push(n), maxBody: 2000 },
    );
    t.after(() => server.close());

    await t.test('lets genuine deliveries through with event and bytes', async () => {
      const body = payload('evt_1', { text: 'é😀', n: 1 }).replace('{', '{ ');
      const res = await post(server.url, body, signed(body));
      assert.equal(res.status, 200);
      assert.equal(await res.text(), 'handled');
      assert.deepEqual(calls.pop(), { body: JSON.parse(body), raw: body, id: 'evt_1' });
    });
    await t.test('answers a processed event without the handler', async () => {
      const body = payload('evt_1', { again: true });
      const res = await post(server.url, body, signed(body));
      assert.equal(res.status, 200);
      assert.equal(await res.text(), 'Event already processed');
      assert.equal(calls.length, 0);
    });
    await t.test('refuses others with 401, logs and alerts', async () => {
      const body = payload('evt_2');
      for (const headers of [{}, signed(body + ' '), { ...signed(body), 'webhook-timestamp': String(now - 1) }, signed(payload('evt_3'))]) {
        const res = await post(server.url, body, { 'Content-Type': 'application/json', ...headers });
        assert.equal(res.status, 401);
        assert.equal(await res.text(), 'Invalid signature');
      }
      assert.equal(calls.length, 0);
      assert.deepEqual(alerts, [2, 4]);
      assert.equal(logger.lines.length, 4);
      for (const line of logger.lines) assert.ok(!line.includes('whsec_') && !line.includes('evt_2'), line);
    });
    await t.test('gives a failed event to the handler again', async () => {
      const body = payload('evt_4');
      answer = async () => 500;
      assert.equal((await post(server.url, body, signed(body))).status, 500);
      answer = async () => {
        throw new Error('handler failed');
      };
      assert.equal((await post(server.url, body, signed(body))).status, 500);
      answer = async () => 204;
      assert.equal((await post(server.url, body, signed(body))).status, 204);
      assert.equal(calls.splice(0).length, 3);
      answer = async () => 200;
      assert.equal((await post(server.url, body, signed(body))).status, 200);
      assert.equal(calls.length, 0);
    });
    await t.test('works on an event once at a time', async () => {
      const body = payload('evt_5');
      let go;
      const held = new Promise((resolve) => (go = resolve));
      let entered;
      const first = new Promise((resolve) => (entered = resolve));
      answer = async () => (entered(), await held, 200);
      const all = [post(server.url, body, signed(body)), post(server.url, body, signed(body)), post(server.url, body, signed(body))];
      await first;
      go();
      const texts = await Promise.all((await Promise.all(all)).map((r) => r.text()));
      assert.deepEqual(texts.sort(), ['Event already processed', 'Event already processed', 'handled']);
      assert.equal(calls.splice(0).length, 1);
      answer = async () => 200;
    });
    await t.test('refuses a body that is too large', async () => {
      const body = payload('evt_6', { x: 'x'.repeat(3000) });
      assert.equal((await post(server.url, body, signed(body))).status, 413);
      assert.equal(calls.length, 0);
    });
    await t.test('takes bodies that are no JSON, and none', async () => {
      // express.json() itself refuses the first one.
      for (const body of name.includes('express.json') ? [''] : ['not json', '']) {
        const id = 'evt_' + body.length;
        const res = await post(server.url, body, signed(body, id));
        assert.equal(res.status, 200, body);
        assert.deepEqual(calls.pop(), { body: undefined, raw: body, id });
      }
    });
    await t.test('answers 503 when the store fails', async () => {
      const body = payload('evt_7');
      seen.processed = async () => {
        throw new Error('away');
      };
      assert.equal((await post(server.url, body, signed(body))).status, 503);
      assert.equal(calls.length, 0);
      delete seen.processed;
      assert.equal((await post(server.url, body, signed(body))).status, 200);
      calls.length = 0;
    });
    if (server.other) {
      await t.test('leaves other routes alone', async () => {
        const res = await post(server.other, '{"a":1}', { 'Content-Type': 'application/json' });
        assert.deepEqual(await res.json(), { parsed: true });
      });
    }
  });
}

test('Express behind express.json says what to change', async (t) => {
  const logger = quiet();
  const server = await express(require('express'), () => assert.fail('called'), { logger }, (e) => e.json());
  t.after(() => server.close());
  const body = payload('evt_1');
  assert.equal((await post(server.url, body, signed(body))).status, 500);
  assert.match(logger.lines.join(), /express\.json\(\{ verify: keepRawBody \}\)/);
});
