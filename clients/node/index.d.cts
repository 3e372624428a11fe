import type { IncomingMessage, ServerResponse } from 'node:http';

/** The raw body: the unchanged bytes, or the same as a string. Never a parsed object. */
export type RawBody = Uint8Array | string;

/** The value of Payment-Signature: 64 lower-case hex digits. */
export function sign(secret: string, body: RawBody): string;
/** One signature of webhook-signature, "v1," included. timestamp is in Unix seconds. */
export function signStandard(secret: string, id: string, timestamp: number, body: RawBody): string;
/** One signature of webhook-signature with an Ed25519 private key ("whsk_…"), "v1a," included. */
export function signEd25519(privateKey: string, id: string, timestamp: number, body: RawBody): string;

export type WebhookErrorCode = 'no_signature' | 'malformed' | 'bad_signature' | 'too_old' | 'too_new' | 'bad_secret' | 'bad_key';

/** Why a delivery or a key is refused. */
export class WebhookError extends Error {
  readonly code: WebhookErrorCode;
}

export interface VerifierOptions {
  /** Largest difference of webhook-timestamp from now, in seconds. Default 300. */
  tolerance?: number;
  /** Name of the plain signature's header. Default "Payment-Signature". */
  signatureHeader?: string;
  /** Refuse deliveries without the Standard Webhooks headers, because they can be replayed. Default false. */
  requireStandard?: boolean;
  /** The clock, in Unix seconds. */
  now?: () => number;
}

export type HeaderSource = Headers | { readonly [name: string]: string | readonly string[] | undefined };

/** Verifies deliveries with one or more secrets ("whsec_…") and Ed25519 public keys ("whpk_…"). */
export class Verifier {
  constructor(keys: string | readonly string[], options?: VerifierOptions);
  tolerance: number;
  signatureHeader: string;
  requireStandard: boolean;
  now: () => number;
  /** Returns the webhook-id if a signature covers it, else ''. Throws a WebhookError if no signature matches. */
  verify(headers: HeaderSource, rawBody: RawBody): { id: string };
}

/** Stores which events were processed. */
export interface SeenStore {
  processed(id: string): Promise<boolean>;
  markProcessed(id: string): Promise<void>;
}

export class MemoryStore implements SeenStore {
  /** Default: seven days and 1,000,000 ids. */
  constructor(options?: { ttlSeconds?: number; maxIds?: number; now?: () => number });
  readonly size: number;
  processed(id: string): Promise<boolean>;
  markProcessed(id: string): Promise<void>;
}

/** The part of a database client that SqlStore uses; a pg Pool works unchanged. */
export interface SqlClient {
  query(sql: string, params: unknown[]): Promise<unknown[] | { rows: unknown[] }> | unknown[] | { rows: unknown[] };
}

export class SqlStore implements SeenStore {
  constructor(db: SqlClient, options?: { dialect?: 'sqlite' | 'postgres' | 'mysql'; table?: string; now?: () => number });
  createTable(): Promise<void>;
  processed(id: string): Promise<boolean>;
  markProcessed(id: string): Promise<void>;
  /** Removes events that were processed before a time in Unix seconds. */
  forget(before: number): Promise<void>;
}

/** The part of a client that RedisStore uses; node-redis works unchanged. */
export interface RedisClient {
  exists(key: string): Promise<number | boolean>;
  set(key: string, value: string, options: { EX: number }): Promise<unknown>;
}

export class RedisStore implements SeenStore {
  constructor(client: RedisClient, options?: { prefix?: string; ttlSeconds?: number });
  processed(id: string): Promise<boolean>;
  markProcessed(id: string): Promise<void>;
}

export interface ReceiverOptions {
  /** Skips events that were processed before. */
  seen?: SeenStore;
  /** Bytes. Default 1 MiB. */
  maxBody?: number;
  logger?: { warn(message: string, detail?: object): void; error(message: string, detail?: object): void };
  /** Calls alert when this many deliveries were refused within alertWindow, and again after each further as many. Default 0: never. */
  alertAfter?: number;
  /** Seconds. Default 600. */
  alertWindow?: number;
  /** refused is the total of alerts that followed one another within a window. */
  alert?: (refused: number) => void;
}

/** A request as handlers after the middleware see it. */
export interface WebhookRequest extends IncomingMessage {
  body: any;
  rawBody: Buffer;
  webhook: { id: string };
}

/** Express and Connect middleware. */
export function expressMiddleware(
  verifier: Verifier,
  options?: ReceiverOptions,
): (req: any, res: any, next: (err?: unknown) => void) => void;

/** A listener for node:http that calls handler for verified deliveries only. */
export function httpHandler(
  verifier: Verifier,
  handler: (req: WebhookRequest, res: ServerResponse) => void | Promise<void>,
  options?: ReceiverOptions,
): (req: IncomingMessage, res: ServerResponse) => void;

/** A Fastify plugin for all routes of the scope that registers it. */
export function fastifyPlugin(fastify: any, options: ReceiverOptions & { verifier: Verifier }, done: (err?: Error) => void): void;

/** For express.json({ verify: keepRawBody }), where the body is parsed before the middleware. */
export function keepRawBody(req: any, res: any, buffer: Buffer): void;
