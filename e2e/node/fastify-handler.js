// The same receiver under Fastify; verifyWebhookSignature comes from the documentation.
const fastify = require('fastify')();
const processed = new Set();
fastify.post('/webhooks/payment', async (req, reply) => {
  const payload = JSON.stringify(req.body);
  const signature = req.headers['payment-signature'];
  if (!verifyWebhookSignature(payload, signature, process.env.WEBHOOK_SECRET)) {
    return reply.code(401).send('Invalid signature');
  }
  console.log('Received event:', req.body.type);
  if (processed.has(req.body.id)) {
    return reply.code(200).send('Event already processed');
  }
  processed.add(req.body.id);
  return reply.code(200).send('Webhook received');
});
process.stdin.on('data', (d) => {
  process.env.WEBHOOK_SECRET = String(d).trim();
  console.log('secret set');
});
fastify.listen({ port: 0, host: '127.0.0.1' }).then(() => console.log('ready ' + fastify.server.address().port));
