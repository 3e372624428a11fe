'use strict';

// The package as its users load it: from CommonJS, from ES modules, from TypeScript, and the example.
const test = require('node:test');
const assert = require('node:assert/strict');
const { execFileSync, spawn } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { sign, signStandard } = require('..');

const root = path.join(__dirname, '..');

function project(files) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'posthaste-webhook-'));
  fs.mkdirSync(path.join(dir, 'node_modules/@posthaste-hq'), { recursive: true });
  fs.mkdirSync(path.join(dir, 'node_modules/@types'), { recursive: true });
  fs.symlinkSync(root, path.join(dir, 'node_modules/@posthaste-hq/webhook'), 'dir');
  for (const name of ['@types/node', 'undici-types']) fs.symlinkSync(path.join(root, 'node_modules', name), path.join(dir, 'node_modules', name), 'dir');
  for (const [name, text] of Object.entries(files)) fs.writeFileSync(path.join(dir, name), text);
  return dir;
}

test('loads from both module systems, with the same names', () => {
  const dir = project({
    'a.cjs': "console.log(Object.keys(require('@posthaste-hq/webhook')).sort().join())",
    'b.mjs': "import * as w from '@posthaste-hq/webhook'; console.log(Object.keys(w).sort().join())",
  });
  const names = ['a.cjs', 'b.mjs'].map((file) => execFileSync(process.execPath, [file], { cwd: dir, encoding: 'utf8' }).trim());
  assert.equal(names[0], names[1]);
  assert.equal(names[0].split(',').length, 12);
  fs.rmSync(dir, { recursive: true });
});

test('has no dependencies', () => {
  const pkg = require('../package.json');
  assert.equal(pkg.dependencies, undefined);
  for (const file of fs.readdirSync(path.join(root, 'lib'))) {
    for (const [, name] of fs.readFileSync(path.join(root, 'lib', file), 'utf8').matchAll(/require\('([^']+)'\)/g)) {
      assert.ok(name.startsWith('node:') || name.startsWith('./'), `${file} requires ${name}`);
    }
  }
});

const sample = `
import { Verifier, WebhookError, MemoryStore, SqlStore, expressMiddleware, httpHandler, fastifyPlugin, sign } from '@posthaste-hq/webhook';
import http from 'node:http';
const verifier = new Verifier([process.env.SECRET ?? ''], { tolerance: 60 });
const id: string = verifier.verify({ 'webhook-id': 'a' }, Buffer.from('')).id;
try { verifier.verify(new Headers(), 'x'); } catch (err) { if (err instanceof WebhookError && err.code === 'too_old') console.log(id); }
http.createServer(httpHandler(verifier, (req, res) => { res.end(req.webhook.id + req.rawBody.length); }, { seen: new MemoryStore(), alertAfter: 3, alertWindow: 60, alert: (n) => console.log(n) }));
const table = new SqlStore({ query: async () => ({ rows: [] }) }, { dialect: 'sqlite' });
expressMiddleware(verifier, { seen: table });
fastifyPlugin({}, { verifier }, () => {});
const hex: string = sign('s', new Uint8Array(1));
// @ts-expect-error a parsed object is not the raw body
verifier.verify({}, { parsed: true });
// @ts-expect-error there is no such code
const code: WebhookError['code'] = 'nonsense';
export { hex, code };
`;

test('has types for both module systems', () => {
  const options = { strict: true, noEmit: true, module: 'nodenext', target: 'es2022', skipLibCheck: false, types: ['node'], esModuleInterop: true, preserveSymlinks: true };
  const dir = project({
    'a.mts': sample,
    'b.cts': sample,
    'tsconfig.json': JSON.stringify({ compilerOptions: options, files: ['a.mts', 'b.cts'] }),
  });
  try {
    execFileSync(process.execPath, [path.join(root, 'node_modules/typescript/bin/tsc'), '-p', dir], { cwd: dir, encoding: 'utf8' });
  } catch (err) {
    assert.fail(err.stdout);
  }
  fs.rmSync(dir, { recursive: true });
});

test('the example runs', async () => {
  const secret = 'whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=';
  const child = spawn(process.execPath, [path.join(root, 'examples/receiver.mjs')], { env: { ...process.env, WEBHOOK_SECRET: secret, PORT: '0' } });
  try {
    let text = '';
    const port = await new Promise((resolve, reject) => {
      child.stdout.on('data', (d) => {
        text += d;
        const m = /127\.0\.0\.1:(\d+)/.exec(text);
        if (m) resolve(m[1]);
      });
      child.on('exit', () => reject(new Error(text)));
      child.stderr.on('data', (d) => (text += d));
    });
    const body = JSON.stringify({ id: 'evt_1', type: 'payment.succeeded', data: { object: { id: 'pay_1' } } });
    const seconds = Math.floor(Date.now() / 1000);
    const headers = { 'webhook-id': 'evt_1', 'webhook-timestamp': String(seconds), 'webhook-signature': signStandard(secret, 'evt_1', seconds, body), 'payment-signature': sign(secret, body) };
    const url = `http://127.0.0.1:${port}/webhooks/payment`;
    assert.equal((await fetch(url, { method: 'POST', body, headers })).status, 200);
    assert.equal((await fetch(url, { method: 'POST', body: body + ' ', headers })).status, 401);
  } finally {
    child.kill();
  }
});
