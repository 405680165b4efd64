# pgbouncer in transaction mode between the coordinator and its shards: calls, transactions over several shards, imports,
# errors. The same session of the coordinator meets other sessions of the shards all the time.
use strict;
use warnings;

use FindBin;
use IPC::Run ();
use lib $FindBin::RealBin;
use Calls;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my ($pgbouncer) = grep { -x } map { "$_/pgbouncer" } split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/local/sbin';
plan skip_all => 'pgbouncer is not installed' unless defined $pgbouncer;

my $dir = PostgreSQL::Test::Utils::tempdir_short;
my @databases = map { "s$_" } 0 .. 3;

sub make_node {
	my ($name) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(extra => [ '-E', 'UTF8', '--locale=C.UTF-8', '--no-sync' ]);
	$node->append_conf('postgresql.conf', "max_prepared_transactions = 20\nfsync = off\nautovacuum = off\nlog_statement = none\nlog_line_prefix = '%n [%p] %e '\nclient_min_messages = warning");
	$node->start;
	return $node;
}
my $coordinator = make_node('coordinator');
$Calls::node = $coordinator;
my $shards = make_node('shards');
my $user = $coordinator->safe_psql('postgres', 'SELECT current_user');
my $store = 'CREATE EXTENSION order_proc; SELECT order_proc.create_store();';
for my $database (@databases) { $shards->safe_psql('postgres', "CREATE DATABASE $database"); $shards->safe_psql($database, $store); }
$coordinator->safe_psql('postgres', "$store CREATE EXTENSION postgres_fdw;");

my $port = PostgreSQL::Test::Cluster::get_free_port();
append_to_file("$dir/users", qq("$user" ""\n));
append_to_file("$dir/pgbouncer.ini", join "\n", '[databases]', (map { sprintf '%s = host=%s port=%d dbname=%s user=%s', $_, $shards->host, $shards->port, $_, $user } @databases), '[pgbouncer]', 'listen_addr =', "listen_port = $port", "unix_socket_dir = $dir",
	# Whoever comes is let in, and is the database's user.
	'auth_type = any', "auth_file = $dir/users", 'pool_mode = transaction', 'default_pool_size = 3', 'reserve_pool_size = 0', 'server_reset_query_always = 0', "logfile = $dir/log", "pidfile = $dir/pid", 'max_client_conn = 200', 'ignore_startup_parameters = extra_float_digits', '');
my ($input, $output) = ('', '');
my $bouncer = IPC::Run::start([ $pgbouncer, '-q', "$dir/pgbouncer.ini" ], '<', \$input, '>', \$output, '2>&1');
for my $try (1 .. 100) { last if -S "$dir/.s.PGSQL.$port"; sleep 0.1; IPC::Run::pump_nb($bouncer); }
ok(-S "$dir/.s.PGSQL.$port", 'pgbouncer runs') or diag $output;

$coordinator->safe_psql('postgres', "CREATE SERVER $_ FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$dir', port '$port', dbname '$_'); CREATE USER MAPPING FOR CURRENT_USER SERVER $_; SELECT order_proc.add_shard('$_')") for @databases;

sub create { my ($customer) = @_; return "SELECT order_proc.create_order_with_items($customer, NULL, NULL, '{1,2}', '{1,1}', '{1.50,2}') > 0;"; }
my $count = "SELECT sum(orders) FROM order_proc.order_counts();";

gives("SELECT count(order_proc.create_customer('C', n::text, NULL, n)) FROM generate_series(1, 200) AS n", 200, 'customers');
gives(create(1) . create(2), "t\nt", 'orders');
gives("$count $count $count", "2\n2\n2", 'reads, again and again');
gives('BEGIN; ' . join(' ', map { create($_) } 1 .. 20) . " $count COMMIT; $count", join("\n", ('t') x 20, 22, 22), 'a transaction over all shards sees what it wrote');
gives('BEGIN; ' . join(' ', map { create($_) } 1 .. 20) . " ROLLBACK; $count", join("\n", ('t') x 20, 22), 'and is rolled back');
gives('BEGIN; ' . create(1) . ' SAVEPOINT a; ' . create(2) . create(3) . " ROLLBACK TO a; COMMIT; $count", "t\nt\nt\n23", 'savepoints');
refused(create(999), '23503', 'an error of a shard');
refused('BEGIN; ' . create(1) . create(999), '23503', 'in a transaction');
gives("SET TimeZone = 'Asia/Tokyo'; SELECT string_agg(DISTINCT x, ',') FROM order_proc.fan_out('SELECT current_setting(''TimeZone'')') AS t(x text)", 'Asia/Tokyo', 'settings go along');
gives("SELECT string_agg(DISTINCT x, ',') FROM order_proc.fan_out('SELECT (current_setting(''TimeZone'') <> ''Asia/Tokyo'')::text') AS t(x text)", 'true', 'and stay with nobody');
gives("SELECT * FROM order_proc.fan_out_aggregate('SELECT count(*), avg(total_amount) FROM order_store.orders') AS t(a bigint, b numeric)", '23|3.5000000000000000', 'aggregates');
gives('SELECT count(*) FROM order_proc.list_orders()', 23, 'lists');
# Of an order's lines the first that has a customer decides whose it is.
my (%owner, $rejected);
for my $line (1 .. 5000) {
	my ($order, $customer) = ($line % 500, 1 + $line % 210);
	$owner{$order} //= $customer if $customer <= 200;
	$rejected++ if $customer > 200 || $owner{$order} != $customer;
}
my $imported = keys %owner;
gives("INSERT INTO order_proc.order_import SELECT 'r' || g % 500, (1 + g % 210)::text, g::text, '1', '1', NULL, NULL FROM generate_series(1, 5000) AS g; SELECT lines, rejected, orders FROM order_proc.last_import(); $count",
	"5000|$rejected|$imported\n" . (23 + $imported), 'an import');
# Many sessions of the coordinator over few of the shards.
{
	my @runs = map { my ($in, $out) = ('', ''); IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $coordinator->connstr('postgres'), map { ('-c', 'BEGIN', '-c', create($_), '-c', 'COMMIT', '-c', $count) } 1 .. 20 ], '<', \$in, '>', \$out, '2>&1') } 1 .. 6;
	is(scalar(grep { IPC::Run::finish($_) } @runs), 6, 'six sessions at once');
}
run('SELECT * FROM order_proc.recover()');
gives("SELECT sum(n) FROM order_proc.fan_out('SELECT count(*) FROM pg_prepared_xacts') AS t(n bigint)", 0, 'no prepared transaction is left');

$bouncer->signal('INT');
eval { IPC::Run::finish($bouncer) };
$_->stop for $coordinator, $shards;
for my $node ($coordinator, $shards) {
	is(join("\n", grep { / XX\d{3} (?:ERROR|FATAL|PANIC)|PANIC:|terminated by signal/ } split /\n/, slurp_file($node->logfile)), '', 'no crash and no internal error in the log of ' . $node->name);
}

done_testing();
