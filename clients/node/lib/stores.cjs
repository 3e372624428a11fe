'use strict';

/** Stores processed events in memory: for ttlSeconds, and at most the newest maxIds. */
class MemoryStore {
  #ids = new Map(); // time of the mark by id; the oldest first

  constructor({ ttlSeconds = 7 * 24 * 3600, maxIds = 1_000_000, now = () => Date.now() } = {}) {
    this.ttl = ttlSeconds * 1000;
    this.maxIds = maxIds;
    this.now = now;
  }

  async processed(id) {
    this.#forget(0);
    return this.#ids.has(id);
  }

  async markProcessed(id) {
    if (this.#ids.has(id)) return;
    this.#forget(1);
    this.#ids.set(id, this.now());
  }

  get size() {
    return this.#ids.size;
  }

  #forget(more) {
    const old = this.now() - this.ttl;
    for (const [id, at] of this.#ids) {
      if (at >= old && this.#ids.size + more <= this.maxIds) return;
      this.#ids.delete(id);
    }
  }
}

const DIALECTS = {
  sqlite: { first: '?', second: '?', insert: 'INSERT INTO', ignore: ' ON CONFLICT (id) DO NOTHING' },
  postgres: { first: '$1', second: '$2', insert: 'INSERT INTO', ignore: ' ON CONFLICT (id) DO NOTHING' },
  mysql: { first: '?', second: '?', insert: 'INSERT IGNORE INTO', ignore: '' },
};

/**
 * Stores processed events in a table that all processes share. db is { query(sql, params) } and returns, or
 * promises, the rows as an array or as { rows }: a pg Pool works unchanged.
 */
class SqlStore {
  #db;
  #sql;

  constructor(db, { dialect = 'postgres', table = 'processed_events', now = () => Math.floor(Date.now() / 1000) } = {}) {
    const d = DIALECTS[dialect];
    if (!d) throw new TypeError(`Unknown dialect "${dialect}"; use ${Object.keys(DIALECTS).join(', ')}.`);
    if (!/^[A-Za-z0-9_.]+$/.test(table)) throw new TypeError(`"${table}" is not a valid table name.`);
    this.#db = db;
    this.now = now;
    this.#sql = {
      create: `CREATE TABLE IF NOT EXISTS ${table} (id VARCHAR(128) NOT NULL PRIMARY KEY, processed_at BIGINT NOT NULL)`,
      look: `SELECT 1 FROM ${table} WHERE id = ${d.first}`,
      mark: `${d.insert} ${table} (id, processed_at) VALUES (${d.first}, ${d.second})${d.ignore}`,
      forget: `DELETE FROM ${table} WHERE processed_at < ${d.first}`,
    };
  }

  async createTable() {
    await this.#db.query(this.#sql.create, []);
  }

  async processed(id) {
    const result = await this.#db.query(this.#sql.look, [id]);
    return (Array.isArray(result) ? result : result.rows).length > 0;
  }

  async markProcessed(id) {
    await this.#db.query(this.#sql.mark, [id, this.now()]);
  }

  /** Removes events that were processed before a time in Unix seconds. */
  async forget(before) {
    await this.#db.query(this.#sql.forget, [before]);
  }
}

/** Stores processed events in Redis or a similar store. client is { exists(key), set(key, value, { EX }) }: node-redis works unchanged. */
class RedisStore {
  #client;

  constructor(client, { prefix = 'webhook:', ttlSeconds = 7 * 24 * 3600 } = {}) {
    this.#client = client;
    this.prefix = prefix;
    this.ttlSeconds = ttlSeconds;
  }

  async processed(id) {
    return Number(await this.#client.exists(this.prefix + id)) > 0;
  }

  async markProcessed(id) {
    await this.#client.set(this.prefix + id, '1', { EX: this.ttlSeconds });
  }
}

module.exports = { MemoryStore, SqlStore, RedisStore };
