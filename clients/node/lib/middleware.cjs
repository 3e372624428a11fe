'use strict';

const { Receiver, readBody, TooLarge } = require('./receiver.cjs');

const PROCESSED = 'Event already processed';

function answer(res, status, text) {
  if (res.headersSent || res.destroyed) return;
  res.statusCode = status;
  res.setHeader('Content-Type', 'text/plain; charset=utf-8');
  res.end(text);
}

/** Marks the event after a response with 2xx, and lets the next delivery of it continue. */
function settle(res, release) {
  res.once('finish', () => release(res.statusCode >= 200 && res.statusCode < 300));
  res.once('close', () => release(false));
}

/** For express.json({ verify: keepRawBody }): keeps the bytes for expressMiddleware. */
function keepRawBody(req, _res, buffer) {
  req.rawBody = buffer;
}

/** The raw bytes, if an earlier parser read the body: undefined if none did, null if they are lost. */
function readBefore(req) {
  if (Buffer.isBuffer(req.rawBody)) return req.rawBody;
  if (Buffer.isBuffer(req.body)) return req.body;
  if (typeof req.body === 'string') return Buffer.from(req.body, 'utf8');
  if (req.readableEnded || (req._body && req.body !== undefined)) return null;
  return undefined;
}

async function receive(receiver, req, res, next) {
  let raw = readBefore(req);
  if (raw === null) {
    receiver.logger.error(
      'webhook: the body was parsed before it could be verified. Put the webhook route before express.json(), ' +
        'or keep the bytes: express.json({ verify: keepRawBody }).',
    );
    answer(res, 500, 'The server cannot verify webhooks as it is set up');
    return;
  }
  try {
    raw ??= await readBody(req, receiver.maxBody);
  } catch (err) {
    if (err instanceof TooLarge) {
      res.setHeader('Connection', 'close'); // the rest is not read
      answer(res, 413, 'Body too large');
    } else answer(res, 400, 'Body could not be read');
    return;
  }
  if (raw.length > receiver.maxBody) {
    answer(res, 413, 'Body too large');
    return;
  }
  let delivery;
  try {
    delivery = receiver.verify(req.headers, raw, req.socket?.remoteAddress);
  } catch {
    answer(res, 401, 'Invalid signature');
    return;
  }
  let claimed;
  try {
    claimed = await receiver.claim(delivery.id, () => res.destroyed);
  } catch {
    answer(res, 503, 'Try again'); // twice is better than never
    return;
  }
  if (claimed.state === 'gone') return;
  if (claimed.state === 'done') {
    answer(res, 200, PROCESSED);
    return;
  }
  settle(res, claimed.release);
  req.rawBody = raw;
  req.body = delivery.event;
  req._body = true; // so that later body parsers skip it
  req.webhook = { id: delivery.id };
  next();
}

/** Express and Connect middleware. After it, req.body is the event, req.rawBody its bytes and req.webhook.id its id. */
function expressMiddleware(verifier, options) {
  const receiver = new Receiver(verifier, options);
  return (req, res, next) => {
    receive(receiver, req, res, next).catch(next);
  };
}

/** A listener for node:http that calls handler(req, res) for verified deliveries only. */
function httpHandler(verifier, handler, options) {
  const receiver = new Receiver(verifier, options);
  return (req, res) => {
    const failed = (err) => {
      receiver.logger.error('webhook handler', { err: err?.message });
      answer(res, 500, 'Internal error');
    };
    receive(receiver, req, res, () => {
      Promise.resolve()
        .then(() => handler(req, res))
        .catch(failed);
    }).catch(failed);
  };
}

/**
 * A Fastify plugin for all routes of the scope that registers it; give webhooks a scope of their own. After it,
 * request.body is the event, request.rawBody its bytes and request.webhook.id its id.
 */
function fastifyPlugin(fastify, options, done) {
  const { verifier, ...rest } = options;
  const receiver = new Receiver(verifier, rest);
  fastify.decorateRequest('rawBody', null);
  fastify.decorateRequest('webhook', null);
  fastify.removeAllContentTypeParsers();
  fastify.addContentTypeParser('*', { parseAs: 'buffer', bodyLimit: receiver.maxBody }, (_request, body, parsed) => parsed(null, body));
  fastify.addHook('preHandler', async (request, reply) => {
    const raw = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
    let delivery;
    try {
      delivery = receiver.verify(request.headers, raw, request.ip);
    } catch {
      return reply.code(401).type('text/plain; charset=utf-8').send('Invalid signature');
    }
    let claimed;
    try {
      claimed = await receiver.claim(delivery.id, () => reply.raw.destroyed);
    } catch {
      return reply.code(503).type('text/plain; charset=utf-8').send('Try again');
    }
    if (claimed.state === 'gone') return reply.hijack();
    if (claimed.state === 'done') return reply.code(200).type('text/plain; charset=utf-8').send(PROCESSED);
    settle(reply.raw, claimed.release);
    request.rawBody = raw;
    request.body = delivery.event;
    request.webhook = { id: delivery.id };
  });
  done();
}
// The hooks apply to the scope that registers the plugin, so the plugin must not create its own.
fastifyPlugin[Symbol.for('skip-override')] = true;
fastifyPlugin[Symbol.for('fastify.display-name')] = 'posthaste-webhook';

module.exports = { expressMiddleware, httpHandler, fastifyPlugin, keepRawBody };
