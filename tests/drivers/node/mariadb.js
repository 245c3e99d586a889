// Scenario with MariaDB's connector for Node.js, which pipelines commands.
'use strict';

const crypto = require('crypto');
const mariadb = require('mariadb');
const { failure, names, rows, say, sum, tls } = require('./show');

const STATEMENT = 'SELECT id, name, price FROM items WHERE id >= ? AND price < ? ORDER BY id';

async function main([host, port, user, password, database, file, transport]) {
  say('driver', 'mariadb', mariadb.version);
  const options = {
    host, port, user, password, database, rowsAsArray: true, dateStrings: true, maxAllowedPacket: 64 << 20,
    allowPublicKeyRetrieval: true,
  };
  if (transport !== 'default') options.ssl = tls(transport) ?? false;
  const connection = await mariadb.createConnection(options);

  // All of these are in flight at the same time.
  const [kinds, absent, broken, numbers] = await Promise.allSettled(
    ['SELECT * FROM kinds', 'SELECT * FROM nosuch', 'SELECT FROM', 'SELECT n FROM numbers'].map((statement) =>
      connection.query(statement)
    )
  );
  say('text', rows(kinds.value));
  say('missing-table', absent.reason.errno);
  say('syntax-error', broken.reason.errno);
  say('rows', sum(numbers.value));

  const prepared = await connection.prepare(STATEMENT);
  const [some, none] = await Promise.all([prepared.execute([1, 100]), prepared.execute([5, 100])]);
  say('prepared', rows(some));
  say('prepared-empty', rows(none));
  prepared.close();
  await connection.batch('INSERT INTO batch VALUES (?, ?)', names());
  say('batch', rows(await connection.query('SELECT COUNT(*), SUM(id), COUNT(name) FROM batch')));
  for (const [step, end] of [['rolled-back', 'rollback'], ['committed', 'commit']]) {
    await Promise.all([
      connection.beginTransaction(),
      connection.query("INSERT INTO batch VALUES (101, 'last')"),
      connection[end](),
    ]);
    say(step, rows(await connection.query('SELECT COUNT(*) FROM batch')));
  }

  const results = await connection.query('CALL two_results(5, @out)');
  say('call', results.filter(Array.isArray).map(rows).join(' / '));
  say('out', rows(await connection.query('SELECT @out')));
  const [[field]] = await connection.query("SELECT REPEAT('0123456789abcdef', 1048577)");
  say('field', field.length, crypto.createHash('md5').update(field).digest('hex'));
  say('parameter', rows(await connection.execute('SELECT SHA2(?, 256)', ['x'.repeat(17e6)])));

  const renewals = [['reset', () => connection.reset()]];
  // The connector does not support it with MySQL.
  if (connection.info.isMariaDB()) {
    renewals.push(['change-user', () => connection.changeUser({ user, password, database })]);
  }
  for (const [step, renew] of renewals) {
    await connection.query('SET @kept = 1');
    await renew();
    say(step, rows(await connection.query('SELECT @kept')));
  }
  await connection.ping();
  say('ping', 'ok');
  await connection.end();

  // A separate connection, because one that may load files does not pipeline.
  const loader = await mariadb.createConnection({ ...options, permitLocalInfile: true });
  await loader.query(`LOAD DATA LOCAL INFILE '${file}' INTO TABLE loaded`);
  say('infile', rows(await loader.query('SELECT COUNT(*), SUM(id) FROM loaded')));
  await loader.end();
}

main(process.argv.slice(2));
