// The secret is known only after the URL is registered, so it comes on stdin.
process.stdin.on('data', (d) => {
  process.env.WEBHOOK_SECRET = String(d).trim();
  console.log('secret set');
});
const server = app.listen(0, '127.0.0.1', () => console.log('ready ' + server.address().port));
