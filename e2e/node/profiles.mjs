// A receiver that verifies each delivery, by its path, with the unmodified library of the sender
// that it was registered from, and that the library refuses the body with one byte changed.
import http from 'node:http';
import Stripe from 'stripe';
import { Webhook as Svix } from 'svix';
import { verify } from '@octokit/webhooks-methods';

const secrets = JSON.parse(process.env.SECRETS);
const stripe = new Stripe('sk_test_unused');

const libraries = {
  '/stripe': (body, headers) => stripe.webhooks.constructEvent(body, headers['stripe-signature'], secrets.stripe),
  '/github': (body, headers) => verify(secrets.github, body, headers['x-hub-signature-256']),
  '/svix': (body, headers) => new Svix(secrets.svix).verify(body, headers),
};

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
    const check = libraries[req.url];
    const ok = (await accepts(() => check(body, req.headers))) && !(await accepts(() => check(body.replace('"id"', '"iD"'), req.headers)));
    const others = Object.keys(req.headers).filter((name) => name.startsWith('webhook-') || name.startsWith('payment-'));
    console.log('checked ' + req.url + ' ' + ok + ' [' + others + ']');
    res.writeHead(ok ? 200 : 401).end();
  });
});
server.listen(0, '127.0.0.1', () => console.log('ready ' + server.address().port));
