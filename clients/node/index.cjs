'use strict';

const { sign, signStandard, signEd25519 } = require('./lib/sign.cjs');
const { Verifier } = require('./lib/verify.cjs');
const { WebhookError } = require('./lib/errors.cjs');
const { MemoryStore, SqlStore, RedisStore } = require('./lib/stores.cjs');
const { expressMiddleware, httpHandler, fastifyPlugin, keepRawBody } = require('./lib/middleware.cjs');

module.exports = {
  sign,
  signStandard,
  signEd25519,
  Verifier,
  WebhookError,
  MemoryStore,
  SqlStore,
  RedisStore,
  expressMiddleware,
  httpHandler,
  fastifyPlugin,
  keepRawBody,
};
