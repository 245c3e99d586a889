// Output of values and rows to insert, for both programs.
'use strict';

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
