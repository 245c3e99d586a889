<?php
// Scenario with mysqli on mysqlnd.

require __DIR__ . '/scenario.php';

[, $host, $port, $user, $password, $database, $file, $transport] = $argv;
say('driver', 'PHP mysqli', PHP_VERSION);
mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);
$db = mysqli_init();
$db->options(MYSQLI_OPT_LOCAL_INFILE, true);
$flags = $transport === 'tls' ? MYSQLI_CLIENT_SSL | MYSQLI_CLIENT_SSL_DONT_VERIFY_SERVER_CERT : 0;
if (str_starts_with($transport, '/')) {
    $flags = MYSQLI_CLIENT_SSL;
    $db->ssl_set(null, null, $transport, null, null);
}
$db->real_connect($host, $user, $password, $database, (int) $port, null, $flags);
$db->set_charset('utf8mb4');

$select = fn(string $statement) => $db->query($statement)->fetch_all();

say('text', rows($select('SELECT * FROM kinds'), BYTES));
$prepared = $db->prepare(STATEMENT);
$prepared->bind_param('id', $least, $most);
foreach (['prepared' => 1, 'prepared-empty' => 5] as $step => $least) {
    $most = 100;
    $prepared->execute();
    say($step, rows($prepared->get_result()->fetch_all()));
}
$prepared->close();
foreach (['missing-table' => 'SELECT * FROM nosuch', 'syntax-error' => 'SELECT FROM'] as $step => $statement) {
    try {
        $db->query($statement);
    } catch (mysqli_sql_exception $e) {
        say($step, $e->getCode());
    }
}

$insert = $db->prepare('INSERT INTO batch VALUES (?, ?)');
foreach (names() as $row) {
    $insert->execute($row);
}
$insert->close();
say('batch', rows($select(COUNTED)));
foreach (['rolled-back' => 'rollback', 'committed' => 'commit'] as $step => $end) {
    $db->begin_transaction();
    $db->query("INSERT INTO batch VALUES (101, 'last')");
    $db->$end();
    say($step, rows($select('SELECT COUNT(*) FROM batch')));
}

$db->multi_query('CALL two_results(5, @out)');
$results = [];
do {
    if ($result = $db->store_result()) {
        $results[] = rows($result->fetch_all());
    }
} while ($db->next_result());
say('call', implode(' / ', $results));
say('out', rows($select('SELECT @out')));
[[$field]] = $select(FIELD);
say('field', strlen($field) . ' ' . md5($field));

/** Rows of a result that is read row by row. */
function each(mysqli_result $result): iterable
{
    while ($row = $result->fetch_row()) {
        yield $row;
    }
}

numbers('rows', each($db->query('SELECT n FROM numbers', MYSQLI_USE_RESULT)));
$cursor = $db->prepare('SELECT n FROM numbers');
$cursor->attr_set(MYSQLI_STMT_ATTR_CURSOR_TYPE, MYSQLI_CURSOR_TYPE_READ_ONLY);
$cursor->execute();
$cursor->bind_result($n);
numbers('cursor', (function () use ($cursor, &$n) {
    while ($cursor->fetch()) {
        yield [$n];
    }
})());
$cursor->close();

// In pieces, by COM_STMT_SEND_LONG_DATA.
$digest = $db->prepare('SELECT SHA2(?, 256)');
$digest->bind_param('b', $nothing);
for ($piece = 0; $piece < 17; $piece++) {
    $digest->send_long_data(0, str_repeat('x', 1_000_000));
}
$digest->execute();
say('parameter', rows($digest->get_result()->fetch_all()));
$digest->close();

$db->query("LOAD DATA LOCAL INFILE '$file' INTO TABLE loaded");
say('infile', rows($select('SELECT COUNT(*), SUM(id) FROM loaded')));
$db->query('SET @kept = 1');
$db->change_user($user, $password, $database);
say('change-user', rows($select('SELECT @kept')));
$db->stat();
say('ping', $db->ping() ? 'ok' : 'failed');
$db->close();
