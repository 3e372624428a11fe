import webhook from './index.cjs';

export const {
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
} = webhook;
