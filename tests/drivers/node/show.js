// Output of values, rows to insert and options of TLS, for both programs.
'use strict';

const fs = require('fs');

function show(value) {
  if (value === null) return 'NULL';
  return Buffer.isBuffer(value) ? value.toString('hex') : String(value);
}

exports.rows = (result) => result.map((row) => row.map(show).join(' ')).join(' / ') || '-';

exports.sum = (result) => `${result.length} ${result.reduce((sum, [n]) => sum + n, 0)}`;

exports.say = (...words) => console.log(words.join(' '));

exports.failure = async (step, promise) => {
  const errno = await promise.then(() => 'none', (error) => error.errno);
  exports.say(step, errno);
};

exports.names = () => Array.from({ length: 100 }, (_, i) => [i + 1, i % 2 === 0 ? `name ${i + 1}` : null]);

// Options for `tls`, and for the file of an authority. Undefined for `plain` and `default`.
exports.tls = (transport) => {
  if (transport === 'tls') return { rejectUnauthorized: false };
  if (!transport.startsWith('/')) return undefined;
  // Both drivers give Node no address to verify.
  return { ca: fs.readFileSync(transport), checkServerIdentity: () => undefined };
};
