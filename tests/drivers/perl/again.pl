# Connects several times, runs a few statements and ignores all errors, because the server is hostile.
use strict;
use warnings;
use DBI;

my ($kind, $host, $port, $user, $password, $database, $file, $times) = @ARGV;
my $own = lc "${kind}_";
my $source = "DBI:$kind:host=$host;port=$port;database=$database;${own}local_infile=1;${own}read_timeout=5";
$SIG{__WARN__} = sub { };
for (1 .. $times) {
    my $db = DBI->connect($source, $user, $password, { RaiseError => 0, PrintError => 0, AutoCommit => 1 }) or next;
    for my $statement ('SELECT 1', 'DO 0', 'SELECT 1') {
        eval {
            my $result = $db->prepare($statement);
            $result->execute;
            do { $result->fetchall_arrayref if $result->{NUM_OF_FIELDS} } while ($result->more_results);
        };
    }
    eval {
        my $prepared = $db->prepare('SELECT ?', { "${own}server_prepare" => 1 });
        $prepared->execute(1);
        $prepared->fetchall_arrayref;
    };
    eval { $db->ping };
    eval { $db->do('DO 0') };
    eval { $db->disconnect };
}
