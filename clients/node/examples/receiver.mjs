// A receiver: WEBHOOK_SECRET=whsec_… node receiver.mjs
import http from 'node:http';
import { Verifier, MemoryStore, httpHandler } from '@posthaste-hq/webhook';

const verifier = new Verifier(process.env.WEBHOOK_SECRET.split(','));

const server = http.createServer(
  httpHandler(
    verifier,
    (req, res) => {
      console.log(req.webhook.id, req.body.type);
      res.end('ok');
    },
    { seen: new MemoryStore(), alertAfter: 10, alert: (n) => console.error(`${n} deliveries were refused`) },
  ),
);
server.listen(process.env.PORT ?? 3000, '127.0.0.1', () => console.log(`listening on 127.0.0.1:${server.address().port}`));
