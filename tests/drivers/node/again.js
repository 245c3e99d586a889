// Connects several times, runs a few statements and ignores all errors, because the server is hostile.
'use strict';

const fs = require('fs');

const [driver, host, port, user, password, database, , times] = process.argv.slice(2);
const login = { host, port, user, password, database };

/** Stops waiting after a time, because an invalid response can leave a promise open. */
const attempt = (call) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, 2000);
    Promise.resolve()
      .then(call)
      .then(() => undefined, () => undefined)
      .then(() => {
        clearTimeout(timer);
        resolve();
      });
  });

async function connect() {
  if (driver === 'mysql2') {
    const mysql = require('mysql2/promise');
    return mysql.createConnection({ ...login, connectTimeout: 2000, infileStreamFactory: (path) => fs.createReadStream(path) });
  }
  const mariadb = require('mariadb');
  return mariadb.createConnection({
    ...login, connectTimeout: 2000, permitLocalInfile: true, allowPublicKeyRetrieval: true,
  });
}

async function once() {
  const connection = await connect();
  const raw = connection.connection ?? connection;
  for (const emitter of [connection, raw]) emitter.on?.('error', () => undefined);
  for (const statement of ['SELECT 1', 'DO 0', 'SELECT 1']) {
    await attempt(() => connection.query(statement));
  }
  await attempt(() => connection.execute('SELECT ?', [1]));
  await attempt(() => connection.ping());
  await attempt(() => connection.query('SELECT 1'));
  (connection.destroy ?? raw.destroy).call(connection.destroy ? connection : raw);
}

async function main() {
  process.on('uncaughtException', () => undefined);
  process.on('unhandledRejection', () => undefined);
  for (let time = 0; time < Number(times); time++) await attempt(once);
  process.exit(0);
}

main();
