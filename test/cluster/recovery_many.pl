# recover() with a full commit log: 5000 decisions over 24 shards, with a receipt on each shard but one; and 2500 that 16 shards
# decided, of which there are the receipts only. What is done for a decision must not grow with their number.
# And commits over so many shards.
use strict;
use warnings;

use Digest::SHA qw(hmac_sha256);
use FindBin;
use lib $FindBin::RealBin;
use Calls;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my ($shards, $decisions) = (24, 5000);

my $node = PostgreSQL::Test::Cluster->new('node');
$node->init(extra => [ '-E', 'UTF8', '--locale=C.UTF-8', '--no-sync' ]);
$node->append_conf('postgresql.conf', "max_prepared_transactions = 60\nfsync = off\nautovacuum = off\norder_proc.recovery_worker = off\nclient_min_messages = warning\nlog_line_prefix = '%n [%p] %e '");
$node->start;
$Calls::node = $node;
$node->safe_psql('postgres', 'CREATE DATABASE shard');
$node->safe_psql($_, 'CREATE EXTENSION order_proc; SELECT order_proc.create_store()') for 'postgres', 'shard';
$node->safe_psql('postgres', 'CREATE EXTENSION postgres_fdw');
my @databases = map { "shard$_" } 0 .. $shards - 1;
$node->safe_psql('postgres', "CREATE DATABASE $_ TEMPLATE shard") for @databases;
$node->safe_psql('postgres', join ' ', map { sprintf "CREATE SERVER %1\$s FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '%2\$s', port '%3\$s', dbname '%1\$s'); CREATE USER MAPPING FOR CURRENT_USER SERVER %1\$s; SELECT order_proc.add_shard('%1\$s');", $_, $node->host, $node->port } @databases);

# Decisions as a coordinator leaves them that dies before it forgets them; that of add_shard is over.
gives('SELECT count(*) FROM order_proc.recover(); SELECT count(*) FROM order_store.commit_log', "0\n0", 'nothing is in doubt');
my ($cluster, $secret) = split /\|/, $node->safe_psql('postgres', "SELECT lpad(to_hex(coordinator_id), 16, '0'), encode(secret, 'hex') FROM order_store.cluster");
my @bases = map { sprintf 'opc2_%s_00000001_0000000000000003_%016x', $cluster, $_ * 0x9e3779b1 } 1 .. $decisions;
my @keys = map { unpack 'q<', hmac_sha256($_, pack 'H*', $secret) } @bases;
my $rows = join ', ', map { "('$bases[$_]', $keys[$_])" } 0 .. $#bases;
my $ids = join ',', 0 .. $shards - 1;
my $script = $node->basedir . '/receipts.sql';
sub write_script { my ($rows) = @_; unlink $script; append_to_file($script, "INSERT INTO order_store.receipts (gid, receipt_key, written_at) SELECT gid, receipt_key, now() - interval '1 minute' FROM (VALUES $rows) AS v (gid, receipt_key)"); }
sub write_receipts { my @to = @_; $node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($_), '-f', $script ], "receipts on $_") for @to; }
write_script($rows);
sub write_decisions { $node->safe_psql('postgres', 'INSERT INTO order_store.commit_log (gid, shard_ids) SELECT gid, ' . "'{$ids}' FROM unnest('{" . join(',', @bases) . "}'::text[]) AS gid"); }
write_decisions();
write_receipts(@databases);

# One that a shard has no receipt of is lost there.
$node->safe_psql('shard7', "DELETE FROM order_store.receipts WHERE gid = '$bases[4321]'");
my $processor = q{SELECT sum(t::bigint) * 10 FROM unnest((string_to_array(split_part(pg_read_file('/proc/self/stat', 0, 4096), ') ', 2), ' '))[12:13]) AS t;};
my $began = time;
my $it = run("$processor SELECT gid, shard_id, action FROM order_proc.recover(); $processor");
my $took = time - $began;
my ($work_before, $found, $work) = split /\n/, $it->{output};
is($found, "$bases[4321]|7|damaged", 'recover() finds the one decision that a shard has lost') or diag $it->{errors};
$work -= $work_before;
# Looking through all of them for each took 10 s.
cmp_ok($work, '<', 4000, sprintf 'among many, with %d ms of a processor, %.2f s by the clock', $work, $took);
gives('SELECT gid, damaged FROM order_store.commit_log', "$bases[4321]|{7}", 'the others are forgotten');

# Receipts whose decision is gone go as well.
is($node->safe_psql('shard3', 'SELECT count(*) FROM order_store.receipts'), $decisions, 'their receipts stay until that is committed');
gives('SELECT action FROM order_proc.recover()', 'damaged', 'the next call forgets them');
is($node->safe_psql('shard3', 'SELECT count(*) FROM order_store.receipts'), 1, 'all but the one that proves the lost decision');

# Interrupts are served in between.
$node->safe_psql($_, 'TRUNCATE order_store.receipts') for @databases;
$node->safe_psql('postgres', 'TRUNCATE order_store.commit_log');
write_decisions();
write_receipts(@databases);
sub time_out {
	my ($steps, $rollback) = @_;
	my %ended;
	for my $n (1 .. $steps) {
		my $milliseconds = int $took * 1000 * $n / ($steps + 1);
		$began = time;
		my $it = run("SET statement_timeout = $milliseconds; $rollback SELECT count(*) FROM order_proc.recover();");
		cmp_ok(time - $began, '<', $milliseconds / 1000 + 30, "a timeout of $milliseconds ms is served") or diag $it->{errors};
		++$ended{ $it->{state} };
	}
	return ok($ended{57014}, 'some were over before it was done');
}
time_out(8, 'BEGIN;');
gives('SELECT count(*) FROM order_proc.recover()', 0, 'the next call goes on');
gives('SELECT count(*) FROM order_store.commit_log', 0, 'to the end');

# What shards decided: more of it than one look shows.
$node->safe_psql($_, 'TRUNCATE order_store.receipts') for @databases;
my $deciders = join '', map { sprintf '%04x', $_ } 0 .. 15;
$decisions = 2500;
@bases = map { sprintf 'opc3_%s_00000001_0000000000000003_%016x_%s', $cluster, $_ * 0x9e3779b1, $deciders } 1 .. $decisions;
@keys = map { unpack 'q<', hmac_sha256($_, pack 'H*', $secret) } @bases;
write_script(join ', ', map { "('$bases[$_]', $keys[$_])" } 0 .. $#bases);
write_receipts(@databases[ 0 .. 15 ]);
$node->safe_psql('shard7', "DELETE FROM order_store.receipts WHERE gid = '$bases[1234]'");
$began = time;
$it = run("$processor SELECT gid, shard_id, action FROM order_proc.recover(); $processor");
$took = time - $began;
($work_before, $found, $work) = split /\n/, $it->{output};
is($found, "$bases[1234]|7|damaged", 'decided by shards: recover() finds the one that a shard has lost') or diag $it->{errors};
$work -= $work_before;
cmp_ok($work, '<', 4000, sprintf 'among many, with %d ms of a processor, %.2f s by the clock', $work, $took);
sub all_but_the_lost { is($node->safe_psql($_, 'SELECT count(*) FROM order_store.receipts'), $_ eq 'shard7' ? 0 : 1, "$_[0] on $_") for @databases[ 0 .. 15 ]; return; }
all_but_the_lost('the others are forgotten');
$node->safe_psql($_, 'TRUNCATE order_store.receipts') for @databases;
$node->safe_psql('postgres', 'TRUNCATE order_store.commit_log');
write_receipts(@databases[ 0 .. 15 ]);
$node->safe_psql('shard7', "DELETE FROM order_store.receipts WHERE gid = '$bases[1234]'");
time_out(2, '');
gives('SELECT action FROM order_proc.recover()', 'damaged', 'the next call goes on') for 1, 2;
all_but_the_lost('to the end');
gives('SELECT gid, damaged FROM order_store.commit_log', "$bases[1234]|{7}", 'nothing is taken for lost that was half forgotten');
$node->safe_psql('postgres', 'TRUNCATE order_store.commit_log');
gives('SELECT count(*) FROM order_proc.recover()', 0, 'nor the lost one when it is mended');

# A shard that comes from a backup has lost many. All are told of, and the receipts that prove them hide no others.
write_receipts(@databases[ 0 .. 6, 8 .. 15 ]);
gives("SELECT count(*), count(DISTINCT gid) FROM order_proc.recover() WHERE shard_id = 7 AND action = 'damaged'", "$decisions|$decisions", 'all that a shard has lost');
gives("SELECT count(*) FROM order_store.commit_log WHERE damaged = '{7}'", $decisions, '  are kept in mind');
gives("SELECT count(*) FROM order_proc.recover() WHERE action = 'damaged'", $decisions, '  and told of again');
my ($last) = sprintf 'opc3_%s_00000001_0000000000000003_%s_%s', $cluster, 'f' x 16, $deciders;
write_script(sprintf "('%s', %s)", $last, unpack 'q<', hmac_sha256($last, pack 'H*', $secret));
write_receipts(@databases[ 0 .. 15 ]);
is($node->safe_psql('shard3', 'SELECT count(*) FROM order_store.receipts'), $decisions + 1, 'their receipts stay, and one more has come');
$node->append_conf('postgresql.conf', 'order_proc.recovery_worker = on');
$node->reload;
$node->safe_psql('postgres', 'SELECT * FROM order_proc.order_counts()');
ok($node->poll_query_until($_, "SELECT NOT EXISTS (SELECT FROM order_store.receipts WHERE gid = '$last')"), "which the worker forgets on $_") for @databases[ 0, 15 ];
$node->append_conf('postgresql.conf', 'order_proc.recovery_worker = off');
$node->reload;
ok($node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type LIKE 'order_proc%')"), 'and goes');
$node->safe_psql('postgres', 'TRUNCATE order_store.commit_log');
gives('SELECT count(*) FROM order_proc.recover()', 0, 'when all of it is mended');
is($node->safe_psql('shard3', 'SELECT count(*) FROM order_store.receipts'), 0, '  it is forgotten');

# As many shards as an identifier has room for decide; of more the coordinator does.
my %customer_of;
for my $customer (1 .. 1000) { last if keys %customer_of == 17; $customer_of{ $node->safe_psql('postgres', "SELECT order_proc.shard_for_customer($customer)") } //= $customer; }
my @customers = values %customer_of;
$node->safe_psql('postgres', "SELECT order_proc.create_customer('Customer', '$_', id => $_)") for @customers;
for my $written (16, 17) {
	$node->safe_psql('postgres', 'SELECT order_proc.recover()');
	my @calls = map { "PERFORM order_proc.create_order_with_items($_, NULL, NULL, '{1}', '{1}', '{1}');" } @customers[ 0 .. $written - 1 ];
	$node->safe_psql('postgres', "DO \$\$ BEGIN @calls END \$\$");
	gives('SELECT left(gid, 4), cardinality(shard_ids) FROM order_store.commit_log', $written == 16 ? '' : 'opc2|17', "$written shards: whether the coordinator decides");
	my @decided = grep { $node->safe_psql($_, "SELECT EXISTS (SELECT FROM order_store.receipts WHERE gid LIKE 'opc3%' AND length(gid) > 100)") eq 't' } @databases;
	is(@decided, $written == 16 ? 16 : 0, '  or they do');
}
my $orders = 0;
$orders += $node->safe_psql($_, 'SELECT count(*) FROM order_store.orders') for @databases;
is($orders, 33, 'all orders are there');
$node->stop;
is(join("\n", grep { / XX\d{3} (?:ERROR|FATAL|PANIC)|PANIC:|terminated by signal/ } split /\n/, slurp_file($node->logfile)), '', 'no crash and no internal error in the log');

done_testing();
