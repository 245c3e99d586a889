<?php
// Scenario with PDO on mysqlnd, with statements that the server prepares.

require __DIR__ . '/scenario.php';

[, $host, $port, $user, $password, $database, $file, $transport] = $argv;
say('driver', 'PHP PDO', PHP_VERSION);
$options = [
    PDO::ATTR_EMULATE_PREPARES => false,
    PDO::ATTR_DEFAULT_FETCH_MODE => PDO::FETCH_NUM,
    PDO::MYSQL_ATTR_LOCAL_INFILE => true,
];
if ($transport === 'tls') {
    // PDO uses TLS only if an option of TLS is set.
    $options[PDO::MYSQL_ATTR_SSL_CIPHER] = 'DEFAULT';
    $options[PDO::MYSQL_ATTR_SSL_VERIFY_SERVER_CERT] = false;
} elseif (str_starts_with($transport, '/')) {
    $options[PDO::MYSQL_ATTR_SSL_CA] = $transport;
}
$db = new PDO("mysql:host=$host;port=$port;dbname=$database;charset=utf8mb4", $user, $password, $options);

$select = fn(string $statement) => $db->query($statement)->fetchAll();

say('text', rows($select('SELECT * FROM kinds'), BYTES));
$prepared = $db->prepare(STATEMENT);
foreach (['prepared' => 1, 'prepared-empty' => 5] as $step => $least) {
    $prepared->execute([$least, 100]);
    say($step, rows($prepared->fetchAll()));
}
foreach (['missing-table' => 'SELECT * FROM nosuch', 'syntax-error' => 'SELECT FROM'] as $step => $statement) {
    try {
        $db->query($statement);
    } catch (PDOException $e) {
        say($step, $e->errorInfo[1]);
    }
}

$insert = $db->prepare('INSERT INTO batch VALUES (?, ?)');
foreach (names() as $row) {
    $insert->execute($row);
}
say('batch', rows($select(COUNTED)));
foreach (['rolled-back' => 'rollBack', 'committed' => 'commit'] as $step => $end) {
    $db->beginTransaction();
    $db->exec("INSERT INTO batch VALUES (101, 'last')");
    $db->$end();
    say($step, rows($select('SELECT COUNT(*) FROM batch')));
}

$call = $db->query('CALL two_results(5, @out)');
$results = [];
do {
    // The last result is the OK of the call. It has no rows, although PDO reports columns.
    if ($rows = $call->fetchAll()) {
        $results[] = rows($rows);
    }
} while ($call->nextRowset());
say('call', implode(' / ', $results));
say('out', rows($select('SELECT @out')));
[[$field]] = $select(FIELD);
say('field', strlen($field) . ' ' . md5($field));
numbers('rows', $db->query('SELECT n FROM numbers'));
$digest = $db->prepare('SELECT SHA2(?, 256)');
$digest->execute([str_repeat('x', 17_000_000)]);
say('parameter', rows($digest->fetchAll()));

$db->exec("LOAD DATA LOCAL INFILE '$file' INTO TABLE loaded");
say('infile', rows($select('SELECT COUNT(*), SUM(id) FROM loaded')));
