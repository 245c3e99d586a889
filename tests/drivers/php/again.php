<?php
// Connects several times, runs a few statements and ignores all errors, because the server is hostile.

[, $driver, $host, $port, $user, $password, $database, , $times] = $argv;
error_reporting(0);
ini_set('default_socket_timeout', '5');
ini_set('mysqlnd.net_read_timeout', '5');

function attempt(callable $call): void
{
    try {
        $call();
    } catch (Throwable) {
    }
}

function with_mysqli(): void
{
    global $host, $port, $user, $password, $database;
    mysqli_report(MYSQLI_REPORT_OFF);
    $db = mysqli_init();
    $db->options(MYSQLI_OPT_LOCAL_INFILE, true);
    $db->real_connect($host, $user, $password, $database, (int) $port);
    foreach (['SELECT 1', 'DO 0', 'SELECT 1'] as $statement) {
        attempt(function () use ($db, $statement) {
            if ($db->multi_query($statement)) {
                do {
                    $db->store_result()?->fetch_all();
                } while ($db->next_result());
            }
        });
    }
    attempt(function () use ($db) {
        $prepared = $db->prepare('SELECT ?');
        $prepared->execute([1]);
        $prepared->get_result()->fetch_all();
    });
    attempt(fn() => $db->stat());
    attempt(fn() => $db->ping());
    attempt(fn() => $db->query('SELECT 1')->fetch_all());
    attempt(fn() => $db->change_user($user, $password, $database));
    attempt(fn() => $db->query('SELECT 1')->fetch_all());
    $db->close();
}

function with_pdo(): void
{
    global $host, $port, $user, $password, $database;
    $db = new PDO("mysql:host=$host;port=$port;dbname=$database", $user, $password, [
        PDO::ATTR_EMULATE_PREPARES => false,
        PDO::ATTR_ERRMODE => PDO::ERRMODE_SILENT,
        PDO::MYSQL_ATTR_LOCAL_INFILE => true,
    ]);
    foreach (['SELECT 1', 'DO 0', 'SELECT 1'] as $statement) {
        attempt(function () use ($db, $statement) {
            $result = $db->query($statement);
            do {
                $result->fetchAll();
            } while ($result->nextRowset());
        });
    }
    attempt(function () use ($db) {
        $prepared = $db->prepare('SELECT ?');
        $prepared->execute([1]);
        $prepared->fetchAll();
    });
    attempt(fn() => $db->exec('DO 0'));
}

for ($time = 0; $time < (int) $times; $time++) {
    attempt(fn() => $driver === 'mysqli' ? with_mysqli() : with_pdo());
}
