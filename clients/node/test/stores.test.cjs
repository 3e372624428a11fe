'use strict';

const test = require('node:test');
const assert = require('node:assert/strict');
const initSqlJs = require('sql.js');
const { MemoryStore, SqlStore, RedisStore } = require('..');

// A real SQLite behind the interface of a client.
async function sqlite() {
  const { Database } = await initSqlJs();
  const db = new Database();
  return {
    query(sql, params) {
      const statement = db.prepare(sql, params);
      const rows = [];
      while (statement.step()) rows.push(statement.getAsObject());
      statement.free();
      return rows;
    },
  };
}

// Expiring keys, with the calls of node-redis.
function redis(clock) {
  const ends = new Map();
  return {
    exists: async (key) => (ends.get(key) > clock.now ? 1 : 0),
    set: async (key, _value, { EX }) => void ends.set(key, clock.now + EX * 1000),
  };
}

const stores = {
  MemoryStore: async (clock) => new MemoryStore({ ttlSeconds: 60, now: () => clock.now }),
  SqlStore: async (clock) => {
    const store = new SqlStore(await sqlite(), { dialect: 'sqlite', now: () => clock.now / 1000 });
    await store.createTable();
    await store.createTable();
    return store;
  },
  RedisStore: async (clock) => new RedisStore(redis(clock), { ttlSeconds: 60 }),
};

for (const [name, open] of Object.entries(stores)) {
  test(`${name} remembers, and forgets`, async () => {
    const clock = { now: 1e9 };
    const store = await open(clock);
    assert.equal(await store.processed('evt_1'), false);
    await store.markProcessed('evt_1');
    await store.markProcessed('evt_1');
    assert.equal(await store.processed('evt_1'), true);
    assert.equal(await store.processed('evt_2'), false);
    assert.equal(await store.processed("'; DROP TABLE processed_events; --"), false);
    clock.now += 61_000;
    if (store instanceof SqlStore) await store.forget((clock.now - 60_000) / 1000);
    assert.equal(await store.processed('evt_1'), false);
  });
}

test('MemoryStore is bounded', async () => {
  const store = new MemoryStore({ maxIds: 3 });
  for (let i = 0; i < 10; i++) await store.markProcessed(String(i));
  assert.equal(store.size, 3);
  assert.deepEqual(await Promise.all(['6', '7', '9'].map((id) => store.processed(id))), [false, true, true]);
});

test('SqlStore refuses odd tables and dialects', () => {
  for (const table of ['', 'a b', 'a;b', 'a"']) assert.throws(() => new SqlStore({}, { table }), TypeError);
  assert.throws(() => new SqlStore({}, { dialect: 'oracle' }), TypeError);
});

test('SqlStore takes what pg returns', async () => {
  const asked = [];
  const store = new SqlStore({ query: async (sql, params) => (asked.push([sql, params]), { rows: sql.startsWith('SELECT') ? [{}] : [] }) });
  assert.equal(await store.processed('evt_1'), true);
  await store.markProcessed('evt_1');
  assert.match(asked[0][0], /id = \$1/);
  assert.match(asked[1][0], /\$1, \$2.*ON CONFLICT/);
});
