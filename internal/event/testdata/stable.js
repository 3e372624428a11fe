// Reads lines of {"src": text, "out": text} and checks for each that out is what
// JSON.stringify(JSON.parse(out)) gives, and that it means the same as src.
const { isDeepStrictEqual } = require('node:util');
const rl = require('node:readline').createInterface({ input: process.stdin });
let checked = 0;
let wrong = 0;
rl.on('line', (line) => {
  const { src, out } = JSON.parse(line);
  const value = JSON.parse(out);
  checked++;
  if (JSON.stringify(value) !== out || !isDeepStrictEqual(value, JSON.parse(src))) {
    // -0 becomes 0 by design; everything else must be equal.
    if (JSON.stringify(value) === out && JSON.stringify(value) === JSON.stringify(JSON.parse(src))) return;
    if (wrong++ < 5) console.log('wrong ' + JSON.stringify({ src, out, want: JSON.stringify(value) }));
  }
});
rl.on('close', () => console.log(`checked ${checked} wrong ${wrong}`));
