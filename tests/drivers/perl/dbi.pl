# Scenario with DBD::mysql or DBD::MariaDB. The first argument is its name in DBI.
use strict;
use warnings;
use utf8;
use DBI;
use Digest::MD5 qw(md5_hex);

my ($kind, $host, $port, $user, $password, $database, $file, $transport) = @ARGV;
binmode STDOUT, ':encoding(UTF-8)';
my $own = lc "${kind}_";
my $source = "DBI:$kind:host=$host;port=$port;database=$database;${own}local_infile=1";
# DBD::mysql cannot require TLS with this client library, but both drivers use it if it is optional.
$source .= ";${own}ssl=1;${own}ssl_optional=1" if $transport eq 'tls';
$source .= ";${own}ssl=1;${own}ssl_verify_server_cert=1;${own}ssl_ca_file=$transport" if $transport =~ m{^/};
my $db = DBI->connect($source, $user, $password, { RaiseError => 1, PrintError => 0, AutoCommit => 1,
    $kind eq 'mysql' ? (mysql_enable_utf8mb4 => 1) : () });
say('driver', "DBD::$kind", "DBD::$kind"->VERSION);

say('text', rows($db->selectall_arrayref('SELECT * FROM kinds')));
my $prepared = $db->prepare('SELECT id, name, price FROM items WHERE id >= ? AND price < ? ORDER BY id',
    { "${own}server_prepare" => 1 });
for (['prepared', 1], ['prepared-empty', 5]) {
    my ($step, $least) = @$_;
    $prepared->execute($least, 100);
    say($step, rows($prepared->fetchall_arrayref));
}
$prepared->finish;
for (['missing-table', 'SELECT * FROM nosuch'], ['syntax-error', 'SELECT FROM']) {
    my ($step, $statement) = @$_;
    eval { $db->do($statement) };
    say($step, $db->err // 'none');
}

my @ids = 1 .. 100;
my $insert = $db->prepare('INSERT INTO batch VALUES (?, ?)', { "${own}server_prepare" => 1 });
$insert->execute_array({}, \@ids, [map { $_ % 2 ? "name $_" : undef } @ids]);
say('batch', rows($db->selectall_arrayref('SELECT COUNT(*), SUM(id), COUNT(name) FROM batch')));
for my $step ('rolled-back', 'committed') {
    $db->begin_work;
    $db->do("INSERT INTO batch VALUES (101, 'last')");
    $step eq 'committed' ? $db->commit : $db->rollback;
    say($step, rows($db->selectall_arrayref('SELECT COUNT(*) FROM batch')));
}

my $call = $db->prepare('CALL two_results(5, @out)');
$call->execute;
my @results;
do {
    push @results, rows($call->fetchall_arrayref) if $call->{NUM_OF_FIELDS};
} while ($call->more_results);
say('call', join ' / ', @results);
say('out', rows($db->selectall_arrayref('SELECT @out')));
my ($field) = $db->selectrow_array("SELECT REPEAT('0123456789abcdef', 1048577)");
say('field', length $field, md5_hex($field));

# Reads row by row without storing the result. Not with DBD::MariaDB 1.22, because it then finds no rows.
my $numbers = $db->prepare('SELECT n FROM numbers', $kind eq 'mysql' ? { mysql_use_result => 1 } : {});
$numbers->execute;
my ($count, $sum) = (0, 0);
while (my ($n) = $numbers->fetchrow_array) {
    $count++;
    $sum += $n;
}
say('rows', $count, $sum);
my $digest = $db->prepare('SELECT SHA2(?, 256)', { "${own}server_prepare" => 1 });
$digest->execute('x' x 17_000_000);
say('parameter', rows($digest->fetchall_arrayref));

$db->do("LOAD DATA LOCAL INFILE '$file' INTO TABLE loaded");
say('infile', rows($db->selectall_arrayref('SELECT COUNT(*), SUM(id) FROM loaded')));
say('ping', $db->ping ? 'ok' : 'failed');
$db->disconnect;

sub say { print join(' ', @_), "\n" }

# A value that begins with a zero byte is the binary column of `kinds`.
sub show {
    my ($value) = @_;
    return 'NULL' unless defined $value;
    return $value =~ /^\0/ ? unpack 'H*', $value : $value;
}

sub rows {
    my ($rows) = @_;
    return join(' / ', map { join ' ', map { show($_) } @$_ } @$rows) || '-';
}
