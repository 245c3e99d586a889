// Scenario with mysql2 and its API with promises.
'use strict';

const crypto = require('crypto');
const fs = require('fs');
const mysql = require('mysql2/promise');
const { version } = require('mysql2/package.json');
const { failure, names, rows, say, sum, tls } = require('./show');

const STATEMENT = 'SELECT id, name, price FROM items WHERE id >= ? AND price < ? ORDER BY id';

async function main([host, port, user, password, database, file, transport]) {
  say('driver', 'mysql2', version);
  const connection = await mysql.createConnection({
    host, port, user, password, database, rowsAsArray: true, dateStrings: true, supportBigNumbers: true,
    ssl: tls(transport),
    infileStreamFactory: (path) => fs.createReadStream(path),
  });
  const select = async (statement) => (await connection.query(statement))[0];

  say('text', rows(await select('SELECT * FROM kinds')));
  const prepared = await connection.prepare(STATEMENT);
  say('prepared', rows((await prepared.execute([1, 100]))[0]));
  say('prepared-empty', rows((await prepared.execute([5, 100]))[0]));
  await prepared.close();
  await failure('missing-table', select('SELECT * FROM nosuch'));
  await failure('syntax-error', select('SELECT FROM'));

  await connection.query('INSERT INTO batch VALUES ?', [names()]);
  say('batch', rows(await select('SELECT COUNT(*), SUM(id), COUNT(name) FROM batch')));
  for (const [step, end] of [['rolled-back', 'rollback'], ['committed', 'commit']]) {
    await connection.beginTransaction();
    await connection.query("INSERT INTO batch VALUES (101, 'last')");
    await connection[end]();
    say(step, rows(await select('SELECT COUNT(*) FROM batch')));
  }

  const results = await select('CALL two_results(5, @out)');
  say('call', results.filter(Array.isArray).map(rows).join(' / '));
  say('out', rows(await select('SELECT @out')));
  const [[field]] = await select("SELECT REPEAT('0123456789abcdef', 1048577)");
  say('field', field.length, crypto.createHash('md5').update(field).digest('hex'));
  say('rows', sum(await select('SELECT n FROM numbers')));
  say('parameter', rows((await connection.execute('SELECT SHA2(?, 256)', ['x'.repeat(17e6)]))[0]));
  await connection.query(`LOAD DATA LOCAL INFILE '${file}' INTO TABLE loaded`);
  say('infile', rows(await select('SELECT COUNT(*), SUM(id) FROM loaded')));

  for (const [step, renew] of [
    ['reset', () => connection.reset()],
    ['change-user', () => connection.changeUser({ user, password, database })],
  ]) {
    await connection.query('SET @kept = 1');
    await renew();
    say(step, rows(await select('SELECT @kept')));
  }
  await connection.ping();
  say('ping', 'ok');
  await connection.end();
}

main(process.argv.slice(2));
