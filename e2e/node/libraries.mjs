// A receiver that verifies each delivery over the raw body with three unmodified
// libraries, and that each of them refuses the body with one byte changed.
import http from 'node:http';
import { Webhook } from 'standardwebhooks';
import { Webhook as Svix } from 'svix';
import { verify } from '@octokit/webhooks-methods';

let secret = '';
process.stdin.on('data', (d) => {
  secret = String(d).trim();
  console.log('secret set');
});

async function accepts(check) {
  try {
    return (await check()) !== false;
  } catch {
    return false;
  }
}

const server = http.createServer((req, res) => {
  const chunks = [];
  req.on('data', (c) => chunks.push(c));
  req.on('end', async () => {
    const body = Buffer.concat(chunks).toString('utf8');
    const tampered = body.replace('"id"', '"iD"');
    const signature = 'sha256=' + req.headers['payment-signature'];
    const results = {
      standardwebhooks: await accepts(() => new Webhook(secret).verify(body, req.headers)),
      svix: await accepts(() => new Svix(secret).verify(body, req.headers)),
      octokit: await accepts(() => verify(secret, body, signature)),
      stable: JSON.stringify(JSON.parse(body)) === body,
      'standardwebhooks-tampered': !(await accepts(() => new Webhook(secret).verify(tampered, req.headers))),
      'svix-tampered': !(await accepts(() => new Svix(secret).verify(tampered, req.headers))),
      'octokit-tampered': !(await accepts(() => verify(secret, tampered, signature))),
    };
    const ok = Object.values(results).every(Boolean);
    console.log('verified ' + JSON.stringify(results));
    res.writeHead(ok ? 200 : 401).end();
  });
});
server.listen(0, '127.0.0.1', () => console.log('ready ' + server.address().port));
