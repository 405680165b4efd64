# Transactions over shards that the shards decide by preparing all of them, with real servers: who decides what, what becomes of the
# others when one hangs, its server is killed or the coordinator dies, and what recover() makes of what is left.
use strict;
use warnings;

use Digest::SHA qw(hmac_sha256);
use FindBin;
use lib $FindBin::RealBin;
use Calls;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

sub make_node {
	my ($name, @settings) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(extra => [ '-E', 'UTF8', '--locale=C.UTF-8', '--no-sync' ]);
	$node->append_conf('postgresql.conf', join "\n", 'max_prepared_transactions = 20', 'fsync = off', 'autovacuum = off', "log_line_prefix = '%n [%p] %b %e '", 'restart_after_crash = on', @settings, '');
	$node->start;
	return $node;
}

my $coordinator = make_node('coordinator', 'order_proc.recovery_worker = off');
$Calls::node = $coordinator;
my @shards = map { make_node("shard$_") } 0 .. 2;
$_->safe_psql('postgres', "CREATE EXTENSION order_proc; SELECT order_proc.create_store(placement => 'modulo');") for $coordinator, @shards;
$coordinator->safe_psql('postgres', 'CREATE EXTENSION postgres_fdw; CREATE TABLE here (n int);');
for my $n (0 .. 2) {
	$coordinator->safe_psql('postgres', sprintf "CREATE SERVER s$n FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '%s', port '%s', dbname 'postgres'); CREATE USER MAPPING FOR CURRENT_USER SERVER s$n; SELECT order_proc.add_shard('s$n');",
		$shards[$n]->host, $shards[$n]->port);
}
$coordinator->safe_psql('postgres', "SELECT order_proc.create_customer('Customer', c::text, id => c) FROM generate_series(0, 8) AS c");

$coordinator->safe_psql('postgres', 'SELECT order_proc.recover()');

# Customer c is on shard c % 3. The shard that is used last is asked first, and heads the list of those that decide: here shard 1.
sub order { my ($customer, $key) = @_; return "SELECT order_proc.create_order_with_items($customer, NULL, NULL, '{1}', '{1}', '{1}', idempotency_key => '$key') > 0; "; }
sub orders { my ($key, @customers) = @_; return join '', map { order($_, $key) } @customers; }
sub document { my ($key, @customers) = @_; return '[' . join(',', map { qq({"customer_id": $_, "product_ids": [1], "quantities": [1], "prices": [1], "idempotency_key": "$key"}) } @customers) . ']'; }
sub create { my ($key, @customers) = @_; return "order_proc.create_orders('" . document($key, @customers) . "')"; }
sub made { my ($key) = @_; return join '', map { $_->safe_psql('postgres', "SELECT count(*) FROM order_store.idempotency_keys WHERE key = '$key'") } @shards; }
sub prepared { return join '', map { $_->safe_psql('postgres', "SELECT count(*) FROM pg_prepared_xacts WHERE gid LIKE 'opc%'") } @shards; }
sub recovered { my ($wanted, $name) = @_; return gives('SELECT shard_id, action FROM order_proc.recover() ORDER BY 1, 2', $wanted, $name); }
# Transactions that their shards decided, and that are not forgotten: the receipts of them, one line for each, with the shards.
my $receipts = "SELECT gid FROM order_store.receipts WHERE gid LIKE 'opc3%' AND receipt_key <> 0";
sub receipts { my %on; for my $n (0 .. $#shards) { push @{ $on{$_} }, $n for split /\n/, $shards[$n]->safe_psql('postgres', $receipts); } return join "\n", map { "$_ @{ $on{$_} }" } sort keys %on; }
# Who decided what is not forgotten; forgets it.
sub decided {
	my $who = join ' ', (map { s/^.*_(\w+) (.*)/shards $1 ($2)/r } split /\n/, receipts()), map { 'coordinator' } split /\n/, $coordinator->safe_psql('postgres', 'SELECT gid FROM order_store.commit_log');
	$coordinator->safe_psql('postgres', 'SELECT order_proc.recover()');
	is(receipts(), '', '  forgotten at once');
	return $who;
}

# --- who decides -------------------------------------------------------------------------------------------------

run('BEGIN; ' . orders('two', 0, 1) . 'COMMIT;');
is(decided(), 'shards 00010000 (0 1)', 'two shards');
run('BEGIN; ' . orders('three', 2, 0, 1) . 'COMMIT;');
is(decided(), 'shards 000100000002 (0 1 2)', 'three shards');
is(made('three'), '111', 'all of it is there');
run("SELECT order_proc.create_orders('[{\"customer_id\": 0, \"product_ids\": [1], \"quantities\": [1], \"prices\": [1]}, {\"customer_id\": 1, \"product_ids\": [1], \"quantities\": [1], \"prices\": [1]}]')");
is(decided(), 'shards 00000001 (0 1)', 'create_orders');
run('BEGIN; INSERT INTO here VALUES (1); ' . orders('local', 0, 1) . 'COMMIT;');
is(decided(), 'coordinator', 'a write here: the coordinator');
run('BEGIN; INSERT INTO here VALUES (1); ' . order(0, 'local one') . 'COMMIT;');
is(decided(), 'coordinator', 'and with one shard');
run('BEGIN ISOLATION LEVEL SERIALIZABLE; ' . orders('serializable', 0, 1) . 'COMMIT;');
is(decided(), 'coordinator', 'SERIALIZABLE: the local commit may fail yet');
run('SET order_proc.shards_decide = off; BEGIN; ' . orders('off', 0, 1) . 'COMMIT;');
is(decided(), 'coordinator', 'shards_decide = off');
run('BEGIN ISOLATION LEVEL REPEATABLE READ; ' . orders('repeatable', 0, 1) . 'COMMIT;');
is(decided(), 'shards 00010000 (0 1)', 'REPEATABLE READ');
run('BEGIN; ' . order(0, 'savepoint') . 'SAVEPOINT s; ' . order(1, 'savepoint') . 'ROLLBACK TO s; ' . order(2, 'savepoint') . 'COMMIT;');
is(decided(), 'shards 00020000 (0 2)', 'with what a savepoint takes back');
is(made('savepoint'), '101', '  which is not there');
run('BEGIN; ' . order(0, 'one left') . 'SAVEPOINT s; ' . order(1, 'one left') . 'ROLLBACK TO s; COMMIT;');
is(decided(), '', 'one shard is left: its commit alone');
my $next_id = $coordinator->safe_psql('postgres', 'SELECT pg_snapshot_xmax(pg_current_snapshot())');
run('BEGIN; ' . orders('no id', 0, 1) . "COMMIT; SELECT " . create('no id at all', 0, 1));
gives('SELECT pg_snapshot_xmax(pg_current_snapshot())', $next_id, 'what the shards decide writes nothing here');
is(made('no id') . ' ' . made('no id at all'), '110 110', '  and is there');
decided();

# Rows of commits are written without the executor, unless somebody would miss it.
$coordinator->safe_psql('postgres', "CREATE TABLE public.seen (gid text); CREATE FUNCTION public.see() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.seen VALUES (NEW.gid); RETURN NEW; END';
	GRANT INSERT ON public.seen TO PUBLIC; CREATE TRIGGER see BEFORE INSERT ON order_store.commit_log FOR EACH ROW EXECUTE FUNCTION public.see()");
$_->safe_psql('postgres', 'CREATE INDEX of_expression ON order_store.receipts (lower(gid))') for @shards;
run('BEGIN; INSERT INTO here VALUES (1); ' . orders('seen', 0, 1) . 'COMMIT; BEGIN; ' . orders('seen by shards', 0, 1) . 'COMMIT;');
is($coordinator->safe_psql('postgres', 'SELECT count(*) FROM public.seen JOIN order_store.commit_log USING (gid)'), '1', 'a trigger on the commit log fires');
is($_->safe_psql('postgres', "SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT count(*) FROM order_store.receipts WHERE lower(gid) >= ''"), $_->safe_psql('postgres', 'SELECT count(*) FROM order_store.receipts'), 'an index of an expression has all receipts') for @shards[ 0, 1 ];
$coordinator->safe_psql('postgres', 'DROP TABLE public.seen; DROP FUNCTION public.see CASCADE');
$_->safe_psql('postgres', 'DROP INDEX order_store.of_expression') for @shards;
is(decided(), 'shards 00010000 (0 1) coordinator', '  decided as ever');

# --- what fails --------------------------------------------------------------------------------------------------

# On shard N: a deferred trigger that fails for orders of the customer, or waits for a lock at the end of the transaction.
sub at_commit {
	my ($n, $customer, $what) = @_;
	$shards[$n]->safe_psql('postgres', <<"SQL");
CREATE OR REPLACE FUNCTION public.at_commit() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN $what; RETURN NULL; END \$\$;
DROP TRIGGER IF EXISTS at_commit ON order_store.orders;
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON order_store.orders DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.customer_id = $customer) EXECUTE FUNCTION public.at_commit();
SQL
}
sub not_at_commit { $_->safe_psql('postgres', 'DROP TRIGGER IF EXISTS at_commit ON order_store.orders') for @shards; }
at_commit(0, 0, "RAISE EXCEPTION 'no' USING ERRCODE = 'P1234'");
refused('BEGIN; ' . orders('refused by the last', 0, 1) . 'COMMIT;', 'P1234', 'the last does not prepare');
is(prepared() . ' ' . made('refused by the last'), '000 000', '  and all is rolled back at once');
not_at_commit();
at_commit(1, 1, "RAISE EXCEPTION 'no' USING ERRCODE = 'P1234'");
refused('BEGIN; ' . orders('refused', 0, 1) . 'COMMIT;', 'P1234', 'the first does not prepare');
is(prepared() . ' ' . made('refused'), '000 000', '  and all is rolled back at once');
not_at_commit();
$shards[0]->safe_psql('postgres', 'ALTER FUNCTION order_proc.write_deciding_receipt(text, bigint) RENAME TO elsewhere');
like(refused('BEGIN; ' . orders('old', 0, 1) . 'COMMIT;', 'OP002', 'a shard with an older version'), qr/shards_decide = off/, '  and what to do until it is upgraded');
$shards[0]->safe_psql('postgres', 'ALTER FUNCTION order_proc.elsewhere(text, bigint) RENAME TO write_deciding_receipt');
is(prepared() . ' ' . made('old'), '000 000', '  nothing is there');
$shards[0]->safe_psql('postgres', 'ALTER FUNCTION order_proc.write_deciding_receipt(text, bigint) RENAME TO elsewhere');
refused("SELECT order_proc.create_orders('[{\"customer_id\": 0, \"product_ids\": [1], \"quantities\": [1], \"prices\": [1]}, {\"customer_id\": 1, \"product_ids\": [1], \"quantities\": [1], \"prices\": [1]}]')", 'OP002', '  in the message of the call, too');
$shards[0]->safe_psql('postgres', 'ALTER FUNCTION order_proc.elsewhere(text, bigint) RENAME TO write_deciding_receipt');
is(prepared(), '000', '  nothing is left');

# --- a shard hangs while it prepares -----------------------------------------------------------------------------

my $waits_for_lock = "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 77 AND NOT granted";
sub waiting { my ($n) = @_; return $shards[$n]->safe_psql('postgres', $waits_for_lock =~ s/count\(\*\) = 1/pid/r); }
sub ended_there { my ($n, $pid) = @_; wait_for($shards[$n], "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)"); }

# The first of them: whether it has prepared tells what becomes of the transaction, and nobody knows.
at_commit(1, 1, 'PERFORM pg_advisory_xact_lock(77)');
for my $end ('goes on', 'is killed') {
	my $holder = hold($shards[1]);
	my $session = session('BEGIN; ' . orders($end, 0, 1) . 'COMMIT;');
	wait_for($shards[1], $waits_for_lock);
	my $pid = waiting(1);
	kill 'STOP', $pid;
	wait_for($shards[0], "SELECT count(*) = 1 FROM pg_prepared_xacts WHERE gid LIKE 'opc3%'");
	gives('SELECT decision FROM order_proc.in_doubt', 'running', "the first shard hangs and $end: the transaction is running");
	recovered('', '  and left alone');
	is(ended($session), '40003', '  the client is told that it is not known');
	gives('SELECT decision FROM order_proc.in_doubt', 'unknown', '  nor is it to others');
	recovered('', '  the resolver does not decide before the shard has');
	is(prepared(), '100', '  so the other stays prepared');
	release($holder);
	if ($end eq 'is killed') {
		crash($shards[1], $pid);
		recovered('0|rolled back', '  then it is rolled back');
		is(made($end), '000', '  nothing is there');
		is($shards[1]->safe_psql('postgres', 'SELECT max(written_at) > now() - interval \'5 seconds\' FROM order_store.receipts WHERE receipt_key = 0'), 't', '  and can never be prepared');
	}
	else {
		# It prepares, unless it first finds out that its client has gone.
		kill 'CONT', $pid;
		ended_there(1, $pid);
		my $prepares = prepared() eq '110';
		recovered($prepares ? "0|committed\n1|committed" : '0|rolled back', '  then it is ended as the shards have decided');
		is(made($end), $prepares ? '110' : '000', '  all is there, or nothing');
	}
	gives("SELECT count(*) FROM (VALUES (order_proc.outcome(0, '$end')), (order_proc.outcome(1, '$end'))) AS o (id) WHERE id IS NOT NULL", made($end) =~ tr/1//, '  and outcome says so');
}
not_at_commit();

# Another: the first is rolled back at once, and with it the transaction, whatever the other does.
at_commit(0, 0, 'PERFORM pg_advisory_xact_lock(77)');
{
	my $holder = hold($shards[0]);
	my $session = session('BEGIN; ' . orders('another hangs', 0, 1) . 'COMMIT;');
	wait_for($shards[0], $waits_for_lock);
	my $pid = waiting(0);
	kill 'STOP', $pid;
	is(ended($session), '08006', 'another shard hangs: nothing is committed');
	is(prepared(), '000', '  what the first has prepared is rolled back at once');
	release($holder);
	kill 'CONT', $pid;
	ended_there(0, $pid);
	recovered(prepared() eq '100' ? '0|rolled back' : '', '  and what the other has prepared by recover()');
	is(prepared() . ' ' . made('another hangs'), '000 000', '  nothing is there');
}
# One of them waits for a lock when the client cancels.
for my $n (0, 1) {
	at_commit($n, $n, 'PERFORM pg_advisory_xact_lock(77)');
	my $holder = hold($shards[$n]);
	my $session = session("SET order_proc.commit_timeout = '60s'; BEGIN; " . orders("cancel $n", 0, 1) . 'COMMIT;');
	wait_for($shards[$n], $waits_for_lock);
	$coordinator->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'victim'");
	is(ended($session), '57014', "a cancel ends a commit that shard $n has yet to prepare");
	release($holder);
	is(prepared() . ' ' . made("cancel $n"), '000 000', '  nothing is there');
	not_at_commit();
}
not_at_commit();

# The first hangs, and the client cancels: then it cannot be told either.
at_commit(1, 1, 'PERFORM pg_advisory_xact_lock(77)');
{
	my $holder = hold($shards[1]);
	my $session = session("SET order_proc.commit_timeout = '60s'; BEGIN; " . orders('cancelled in vain', 0, 1) . 'COMMIT;');
	wait_for($shards[1], $waits_for_lock);
	my $pid = waiting(1);
	kill 'STOP', $pid;
	wait_for($shards[0], "SELECT count(*) = 1 FROM pg_prepared_xacts WHERE gid LIKE 'opc3%'");
	$coordinator->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'victim'");
	is(ended($session), '40003', 'a cancel that does not reach the first shard: it is not known');
	is(prepared(), '100', '  what the other has prepared is left to recover()');
	kill 'CONT', $pid;
	release($holder);
	ended_there(1, $pid);
	my $prepares = prepared() eq '110';
	recovered($prepares ? "0|committed\n1|committed" : '0|rolled back', '  which ends it');
	is(made('cancelled in vain'), $prepares ? '110' : '000', '  all is there, or nothing');
}

# The coordinator dies while one has yet to prepare.
{
	my $holder = hold($shards[1]);
	my $session = session("SET order_proc.commit_timeout = '30s'; BEGIN; " . orders('coordinator dies', 0, 1) . 'COMMIT;');
	wait_for($shards[1], $waits_for_lock);
	my $pid = waiting(1);
	crash($coordinator, $coordinator->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE application_name = 'victim'"));
	release($holder);
	ended($session);
	ended_there(1, $pid);
	my $prepares = prepared() eq '110';
	run('SELECT order_proc.recover()');
	is(prepared() . ' ' . made('coordinator dies'), $prepares ? '000 110' : '000 000', 'a coordinator that died while a shard prepared: the shards have decided');
}
not_at_commit();

# --- what recover() goes by --------------------------------------------------------------------------------------

# A transaction that was committed, its part on shard 1 prepared anew as a crash would have left it.
sub prepare_again {
	my ($key) = @_;
	run('SELECT order_proc.recover(); BEGIN; ' . orders($key, 0, 1) . 'COMMIT;');
	my $base = $shards[1]->safe_psql('postgres', $receipts);
	$shards[1]->safe_psql('postgres', "CREATE TABLE IF NOT EXISTS public.again (key text); BEGIN; INSERT INTO public.again VALUES ('$key'); PREPARE TRANSACTION '${base}_0001'");
	return $base;
}
sub again { my ($key) = @_; return $shards[1]->safe_psql('postgres', "SELECT count(*) FROM public.again WHERE key = '$key'"); }

prepare_again('proved');
gives('SELECT decision FROM order_proc.in_doubt', 'commit', 'a receipt tells');
recovered('1|committed', '  and it is committed');
is(again('proved'), '1', '  it is there');
my $base = prepare_again('undecided');
$_->safe_psql('postgres', "DELETE FROM order_store.receipts WHERE gid = '$base'") for @shards;
$shards[0]->stop;
run('SELECT order_proc.recover()');
is($shards[1]->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts'), '1', 'no receipt is to be had, the other shard is down: the part stays');
$shards[0]->start;
recovered('1|rolled back', 'it is back and has none: rolled back');
is(again('undecided'), '0', '  nothing is there');
$shards[1]->safe_psql('postgres', "BEGIN; INSERT INTO public.again VALUES ('undecided'); PREPARE TRANSACTION '${base}_0001'");
recovered('1|rolled back', '  and a part that was out of reach in that round goes in another');
my ($code, undef, $errors) = $shards[0]->psql('postgres', "SELECT order_proc.write_deciding_receipt('${base}_0000', 1)");
like($errors, qr/duplicate key/, '  and a shard that comes late cannot prepare');
# All have prepared, and nobody has told them more: that is the decision.
sub prepare_both {
	my ($key) = @_;
	my $base = prepare_again($key);
	my $receipt = $shards[1]->safe_psql('postgres', "SELECT receipt_key FROM order_store.receipts WHERE gid = '$base'");
	$shards[1]->safe_psql('postgres', "ROLLBACK PREPARED '${base}_0001'");
	$shards[$_]->safe_psql('postgres', "CREATE TABLE IF NOT EXISTS public.again (key text); DELETE FROM order_store.receipts WHERE gid = '$base';
		BEGIN; INSERT INTO public.again VALUES ('$key'); INSERT INTO order_store.receipts (gid, receipt_key) VALUES ('$base', $receipt); PREPARE TRANSACTION '${base}_000$_'") for 0, 1;
	return $base;
}
prepare_both('both');
gives('SELECT shard_id, decision FROM order_proc.in_doubt ORDER BY 1', "0|unknown\n1|unknown", 'all have prepared: nobody has looked so far');
$shards[0]->stop;
recovered('', '  one of them is down: it stays');
$shards[0]->start;
$shards[1]->stop;
recovered('', '  or the other one');
$shards[1]->start;
is(prepared(), '110', '  prepared on both');
recovered("0|committed\n1|committed", '  recover() sees that all have');
is(again('both') . $shards[0]->safe_psql('postgres', "SELECT count(*) FROM public.again WHERE key = 'both'"), '11', '  and both are there');
# The first cannot commit for a while: nor do the others, whatever a command that is under way may make of it.
$base = prepare_both('in turn');
{
	my $holder = session("BEGIN; SELECT order_proc.register_coordinator(coordinator_id, shard_id, 99, 1) FROM order_store.cluster; SELECT 'holds';", node => $shards[1]);
	$holder->{run}->pump until $holder->{output} =~ /holds/;
	recovered('', 'the first waits at the fence: so do the others');
	is(prepared(), '110', '  which are still prepared');
	$holder->{input} .= "ROLLBACK;\n\\q\n";
	ended($holder);
	wait_for($shards[1], "SELECT count(*) = 0 FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()");
	run('SELECT order_proc.recover()');
	is(prepared() . ' ' . again('in turn'), '000 1', '  and follow it');
}
# One of the others cannot: its part is prepared, not lost.
$base = prepare_both('other waits');
{
	my $holder = session("BEGIN; SELECT order_proc.register_coordinator(coordinator_id, shard_id, 99, 1) FROM order_store.cluster; SELECT 'holds';", node => $shards[0]);
	$holder->{run}->pump until $holder->{output} =~ /holds/;
	recovered('1|committed', 'another than the first waits at the fence: the first commits');
	recovered('', '  and nothing is taken for lost');
	is(prepared() . ' ' . receipts(), "100 $base 1", '  the receipt stays');
	$holder->{input} .= "ROLLBACK;\n\\q\n";
	ended($holder);
	wait_for($shards[0], "SELECT count(*) = 0 FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()");
	run('SELECT order_proc.recover()');
	is(prepared() . ' ' . receipts() . $shards[0]->safe_psql('postgres', "SELECT count(*) FROM public.again WHERE key = 'other waits'"), '000 1', '  until it follows');
}
$base = prepare_both('undone');
$shards[1]->safe_psql('postgres', "ROLLBACK PREPARED '${base}_0001'");
recovered('0|rolled back', 'who gives up has the first rolled back: the others follow');
is($shards[0]->safe_psql('postgres', "SELECT count(*) FROM public.again WHERE key = 'undone'"), '0', '  nothing is there');

# --- lost parts --------------------------------------------------------------------------------------------------

# A transaction over all shards, with its receipts but those of some: as if these had been restored from a backup.
sub lose {
	my ($key, @lost) = @_;
	run('SELECT order_proc.recover(); BEGIN; ' . orders($key, 0, 1, 2) . 'COMMIT;');
	my $base = $shards[1]->safe_psql('postgres', $receipts);
	$shards[$_]->safe_psql('postgres', "DELETE FROM order_store.receipts WHERE gid = '$base'") for @lost;
	return $base;
}
my ($key_of_cluster) = $coordinator->safe_psql('postgres', "SELECT encode(secret, 'hex') FROM order_store.cluster");
sub key { my ($base) = @_; return unpack 'q<', hmac_sha256($base, pack 'H*', $key_of_cluster); }

# The first of the shards that decide is the one that is used last: 2.
for my $lost ([0], [2], [ 0, 1 ]) {
	my $it = join ' and ', @$lost;
	my $wanted = join "\n", map { "$_|damaged" } @$lost;
	my $base = lose("lost on $it", @$lost);
	my ($present) = grep { my $n = $_; !grep { $_ == $n } @$lost } 0 .. 2;
	if ($it eq '0') {
		$shards[$present]->stop;
		recovered('', 'a shard has lost its commit, and another is down: nothing is said yet');
		$shards[$present]->start;
	}
	run('BEGIN; SELECT order_proc.recover(); SELECT order_proc.recover(); ROLLBACK;');
	recovered($wanted, "lost by $it: reported, whatever was rolled back before");
	gives("SELECT count(*), min(cardinality(shard_ids)) FROM order_store.commit_log WHERE damaged = '{" . join(',', @$lost) . "}'", '1|3', '  and kept in mind');
	gives('SELECT shard_id, decision FROM order_proc.in_doubt ORDER BY 1', $wanted, '  by in_doubt as well');
	recovered($wanted, '  again');
	like(receipts(), qr/^$base $present( \d)?$/, '  the other receipts stay');
	$coordinator->safe_psql('postgres', 'DELETE FROM order_store.commit_log');
	recovered('', '  until the row is deleted');
	is(receipts(), '', '  then they are forgotten');
}

# A shard that is restored after all.
$base = lose('restored', 1);
recovered('1|damaged', 'a shard has lost its part');
recovered('1|damaged', '  (the others have it on record)');
$shards[1]->safe_psql('postgres', "INSERT INTO order_store.receipts (gid, receipt_key) VALUES ('$base', @{[ key($base) ]})");
recovered('', '  and found it again');
recovered('', '  which is forgotten');
is(receipts() . $coordinator->safe_psql('postgres', 'SELECT count(*) FROM order_store.commit_log'), '0', '  all of it');

# Half forgotten: the first is marked, others are gone. With the mark nothing is missed.
for my $gone ([], [0], [ 0, 1 ]) {
	$base = lose('forgotten ' . @$gone, @$gone);
	$shards[2]->safe_psql('postgres', "UPDATE order_store.receipts SET receipt_key = ~receipt_key WHERE gid = '$base'");
	recovered('', 'who forgets dies behind the receipts of ' . @$gone . ' shards');
	is(receipts(), '', '  the rest is forgotten');
}
# Nobody can make such a mark without the key.
$base = lose('forged', 0);
$shards[0]->safe_psql('postgres', "CREATE ROLE guest LOGIN; SET SESSION AUTHORIZATION guest; SELECT order_proc.write_deciding_receipt('${base}_0000', 1)");
recovered('0|damaged', 'a forged receipt hides nothing');
recovered('0|damaged', '  (on record)');
$coordinator->safe_psql('postgres', 'DELETE FROM order_store.commit_log');
recovered('', '  mended');
is(receipts(), '', '  all is forgotten, the forged one as well');

# Two of the three shards cannot be asked, or will not forget: what can be is done, and nothing is lost.
$base = lose('steps');
$shards[0]->safe_psql('postgres', "CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''kept''; END'; CREATE TRIGGER keep BEFORE DELETE ON order_store.receipts FOR EACH ROW EXECUTE FUNCTION public.keep()");
recovered('', 'a shard that does not forget a receipt');
is(receipts(), "$base 0 2", '  that of the first stays, too');
$shards[0]->safe_psql('postgres', 'DROP FUNCTION public.keep CASCADE');
recovered('', '  until it does');
is(receipts(), '', '  then both go');

# Several at once, and sessions that commit in the meantime: nobody takes for lost what others forget.
{
	my $script = PostgreSQL::Test::Utils::tempdir() . '/busy.sql';
	append_to_file($script, "BEGIN;\n" . join('', map { "SELECT order_proc.create_order_with_items($_, NULL, NULL, '{1}', '{1}', '{1}');\n" } 0, 1, 2) . "COMMIT;\n");
	my $settle = PostgreSQL::Test::Utils::tempdir() . '/settle.sql';
	append_to_file($settle, "SELECT action FROM order_proc.recover();\n");
	my @runs = map { my ($file, $clients, $count) = @$_; my %run = (errors => '', output => ''); $run{run} = IPC::Run::start([ 'pgbench', '-n', '-c', $clients, '-t', $count, '-f', $file, $coordinator->connstr('postgres') ], '>', \$run{output}, '2>', \$run{errors}); \%run } [ $script, 2, 60 ], [ $settle, 3, 20 ];
	for my $it (@runs) { ok(IPC::Run::finish($it->{run}), 'commits and three resolvers at once') or diag $it->{errors}; }
	gives('SELECT count(*) FROM order_store.commit_log', '0', '  nothing is taken for lost');
	recovered('', '  nor later');
	is(receipts(), '', '  all is forgotten');
}

# --- prepared in the message of the call -------------------------------------------------------------------------

# On shard N: what orders of the customer do when they are made.
sub at_call {
	my ($n, $customer, $what) = @_;
	$shards[$n]->safe_psql('postgres', <<"SQL");
CREATE OR REPLACE FUNCTION public.at_call() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN $what; RETURN NEW; END \$\$;
DROP TRIGGER IF EXISTS at_call ON order_store.orders;
CREATE TRIGGER at_call BEFORE INSERT ON order_store.orders FOR EACH ROW WHEN (NEW.customer_id = $customer) EXECUTE FUNCTION public.at_call();
SQL
}
sub not_at_call { $_->safe_psql('postgres', 'DROP TRIGGER IF EXISTS at_call ON order_store.orders') for @shards; }

# Whether shard 0 was asked for the commit's part with its orders: those of shard 1 fail, so later it is not asked any more.
sub asked_with_call {
	my ($statement, @client) = @_;
	my $from = length slurp_file($shards[0]->logfile);
	my ($errors, $text) = ('');
	if (@client) {
		my $script = PostgreSQL::Test::Utils::tempdir() . '/script.sql';
		unlink $script;
		append_to_file($script, $statement);
		IPC::Run::run([ 'pgbench', '-n', '-t', 1, @client, '-f', $script, $coordinator->connstr('postgres') ], '>', \$text, '2>', \$errors);
	}
	else { $errors = run($statement)->{errors}; }
	like($errors, qr/no order of 1/, '(it fails)');
	return slurp_file($shards[0]->logfile, $from) =~ /order_proc\.write_(?:deciding_)?receipt/ ? 'yes' : 'no';
}
at_call(1, 1, "RAISE EXCEPTION 'no order of 1' USING ERRCODE = 'P1234'");
$coordinator->safe_psql('postgres', "CREATE FUNCTION public.creates(document jsonb) RETURNS bigint[] LANGUAGE plpgsql AS 'BEGIN RETURN order_proc.create_orders(document); END';
	CREATE FUNCTION public.creates_in_sql(document jsonb) RETURNS bigint[] LANGUAGE sql AS 'SELECT order_proc.create_orders(document)'");
my $alone = create('alone', 0, 1);
is(asked_with_call("SELECT $alone"), 'yes', 'a statement of its own: prepared with the call');
is(asked_with_call("SELECT $alone;", '-M', $_), 'yes', "  pgbench -M $_") for 'simple', 'extended', 'prepared';
is(asked_with_call("SELECT public.creates_in_sql('" . document('alone', 0, 1) . "')"), 'yes', '  in a function of SQL, which the planner takes apart');
is(asked_with_call('SELECT order_proc.create_orders((SELECT jsonb_agg(d) FROM jsonb_array_elements(\'' . document('alone', 0, 1) . '\') AS d))'), 'yes', '  an argument that is read from somewhere');
for my $other (
	"BEGIN; SELECT $alone; COMMIT", "SELECT $alone, 1", "SELECT $alone FROM here", "SELECT * FROM $alone", "SELECT cardinality($alone)", "INSERT INTO here SELECT 1 WHERE $alone IS NOT NULL",
	"SELECT public.creates('" . document('alone', 0, 1) . "')", "DO \$\$ BEGIN PERFORM $alone; END \$\$",
	"SET order_proc.shards_decide = off; SELECT $alone", "SET default_transaction_isolation = 'serializable'; SELECT $alone", "EXPLAIN ANALYZE SELECT $alone", "COPY (SELECT $alone) TO STDOUT", "DECLARE c CURSOR WITH HOLD FOR SELECT $alone; FETCH c",
	"SELECT $alone \\; SELECT 1;") {
	is(asked_with_call($other), 'no', 'not so: ' . $other =~ s/order_proc.create_orders\(\K'\[.*\]'/.../r);
}
is(asked_with_call("\\startpipeline\nSELECT $alone;\nSELECT 1;\n\\endpipeline", '-M', 'extended'), 'no', 'not so: something follows in the pipeline');
is(prepared() . ' ' . made('alone'), '000 000', 'nothing of it all is there');
not_at_call();

gives('SELECT ' . create('alone', 0, 1, 2, 3, 4) . ' IS NOT NULL', 't', 'not alone, over three shards');
run('SELECT order_proc.recover(); SELECT ' . create('all', 0, 1, 2, 3));
is(made('all'), '211', 'alone, over three shards');
is(decided(), 'shards 000000010002 (0 1 2)', '  and they decide');
gives("SELECT order_proc.outcome(1, 'all') > 0", 't', '  outcome knows it');
refused('SELECT ' . create('refused', 0, 99, 1, 97), '23503', 'a customer that is not there');
is(prepared() . ' ' . made('refused'), '000 000', '  all is rolled back at once');
at_commit(0, 0, "RAISE EXCEPTION 'no' USING ERRCODE = 'P1234'");
refused('SELECT ' . create('deferred', 0, 1), 'P1234', 'what is deferred on a shard fails') for 1 .. 4;
is(prepared() . ' ' . made('deferred'), '000 000', '  all is rolled back at once');
not_at_commit();

# Sessions on shards that went while they had nothing to do are replaced.
{
	my $session = session('SELECT ' . create('before', 0, 1) . ' IS NOT NULL;');
	$session->{run}->pump until $session->{output} =~ /t\n/;
	$_->safe_psql('postgres', "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'order_proc'") for @shards[ 0, 1 ];
	$session->{input} .= 'SELECT ' . create('after', 0, 1) . " IS NOT NULL;\n\\q\n";
	is(ended($session) . ' ' . made('after'), ' 110', 'sessions on shards that went are replaced');
}

# A call that takes long is taken back and made again: reads that see all or nothing wait for a commit.
at_call(1, 1, 'PERFORM pg_advisory_xact_lock(77)');
{
	my $holder = hold($shards[1]);
	my $session = session("SET order_proc.commit_timeout = '30s'; SELECT " . create('slow', 0, 1) . ' IS NOT NULL;');
	wait_for($shards[1], $waits_for_lock);
	gives("SET order_proc.read_consistency = atomic; SELECT count(*) >= 0 FROM order_proc.list_orders()", 't', 'a slow call does not keep atomic reads waiting');
	wait_for($shards[0], "SELECT count(*) = 0 FROM pg_prepared_xacts");
	release($holder);
	$session->{input} .= "\\q\n";
	is(ended($session) . ' ' . made('slow') . ' ' . prepared(), ' 110 000', '  and is made once');
	is($session->{errors}, '', '  without a word');
}
# One that hangs is waited for and cancelled in vain: the first, which has prepared, can be rolled back all the same.
{
	my $holder = hold($shards[1]);
	my $session = session('SELECT ' . create('hangs in the call', 0, 1) . ';');
	wait_for($shards[1], $waits_for_lock);
	my $pid = waiting(1);
	kill 'STOP', $pid;
	$session->{input} .= "\\q\n";
	is(ended($session) . ' ' . prepared(), '08006 000', 'a shard that hangs in the call: nothing is committed');
	release($holder);
	kill 'CONT', $pid;
	ended_there(1, $pid);
	run('SELECT order_proc.recover()');
	is(made('hangs in the call') . ' ' . prepared(), '000 000', '  nothing is there');
}
for my $how ('cancel', 'statement_timeout') {
	my $holder = hold($shards[1]);
	my $session = session(($how eq 'cancel' ? '' : 'SET statement_timeout = 500; ') . 'SELECT ' . create($how, 0, 1) . ';');
	if ($how eq 'cancel') {
		wait_for($shards[1], $waits_for_lock);
		$coordinator->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'victim'");
	}
	$session->{input} .= "\\q\n";
	is(ended($session), '57014', "$how ends a call that would have prepared");
	release($holder);
	run('SELECT order_proc.recover()');
	is(made($how) . ' ' . prepared(), '000 000', '  nothing is there');
}
# The coordinator's session dies: what has prepared is rolled back.
{
	my $holder = hold($shards[1]);
	my $session = session('SELECT ' . create('killed', 0, 1, 2) . ';');
	wait_for($shards[1], $waits_for_lock);
	$coordinator->safe_psql('postgres', "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'victim'");
	ended($session);
	release($holder);
	wait_for($shards[1], "SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory' AND objid = 77");
	run('SELECT order_proc.recover()');
	is(made('killed') . ' ' . prepared(), '000 000', 'the session is terminated: nothing is there');
}
not_at_call();

# --- committed in the message of the call ------------------------------------------------------------------------

sub victim { return $coordinator->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE application_name = 'victim'"); }
sub call { my ($key) = @_; return order(0, $key) =~ s/ > 0; $//r; }

# What the shards have when shard 0 is done and the session that called it is stopped.
at_call(0, 0, 'PERFORM pg_advisory_xact_lock(77)');
sub commits_with_call {
	my ($key, $statement) = @_;
	my $holder = hold($shards[0]);
	my $session = session($statement);
	wait_for($shards[0], $waits_for_lock);
	my $pid = victim();
	kill 'STOP', $pid;
	release($holder);
	wait_for($shards[0], "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'order_proc' AND state = 'active'");
	my $made = made($key);
	kill 'CONT', $pid;
	$session->{input} .= "\\q\n";
	is(ended($session) . ' ' . made($key), ' 100', "($key is made)") or diag $session->{errors};
	return $made;
}
is(commits_with_call('one', call('one') . ';'), '100', 'a statement of its own commits with the call');
is(commits_with_call('one of many', 'SELECT ' . create('one of many', 0) . ';'), '100', '  create_orders for one shard');
is(commits_with_call('a setting', 'SET order_proc.commit_with_call = off; ' . call('a setting') . ';'), '000', 'not so: commit_with_call = off');
is(commits_with_call('a block', 'BEGIN; ' . call('a block') . '; COMMIT;'), '000', 'not so: in a transaction block');
is(commits_with_call('serializable alone', "SET default_transaction_isolation = 'serializable'; " . call('serializable alone') . ';'), '000', 'not so: SERIALIZABLE');
is(commits_with_call('an argument', 'SELECT order_proc.create_order_with_items((SELECT 0 FROM txid_current()), NULL, NULL, \'{1}\', \'{1}\', \'{1}\', idempotency_key => \'an argument\');'), '000', 'not so: an argument has a transaction id');
is(decided(), 'coordinator coordinator', '  the last two in two phases');

refused(call('no customer') =~ s/\(0,/(99,/r, '23503', 'the error of the shard');
at_commit(0, 0, "RAISE EXCEPTION 'no' USING ERRCODE = 'P1234'");
refused(call('deferred one'), 'P1234', '  also of what is deferred there');
not_at_commit();
is(made('deferred one'), '000', '  nothing is there');
like(run(call('after errors') . '; ' . call('and again'))->{output}, qr/^\d+\n\d+$/, '  the session goes on');

# A call that waits for the lock on the shard, and is stopped: the session, its SQLSTATE, the key. A busy machine may not get the cancel to the
# shard in time, which is 40003: then another is.
sub stopped {
	my ($how) = @_;
	for my $key (map { "$how $_" } 1 .. 5) {
		my $holder = hold($shards[0]);
		my $session = session(($how eq 'statement_timeout' ? 'SET statement_timeout = 500; ' : '') . call($key) . ';');
		if ($how !~ /timeout/) {
			wait_for($shards[0], $waits_for_lock);
			$coordinator->safe_psql('postgres', sprintf 'SELECT pg_%s_backend(%d)', $how =~ s/ late//r, victim());
		}
		$session->{run}->pump until $session->{output} =~ /\n/ || $session->{errors} =~ /LOCATION/;
		$session->{input} .= "SELECT 'goes on';\n\\q\n";
		my $state = ended($session);
		wait_for($shards[0], "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'order_proc' AND state = 'active')");
		release($holder);
		return ($session, $state, $key) if $state ne '40003';
	}
	die "$how: the shard is never canceled in time";
}
for my $how ('cancel', 'statement_timeout', 'terminate') {
	my ($session, $state, $key) = stopped($how);
	is($state, $how eq 'terminate' ? '57P01' : '57014', "$how ends a call that would have committed");
	is(made($key), '000', '  nothing is there');
}

# The shard cannot be heard: its session hangs, or ends.
for my $how ('hangs', 'hangs and dies') {
	my $holder = hold($shards[0]);
	my $session = session(call($how) . ';');
	wait_for($shards[0], $waits_for_lock);
	my $pid = $shards[0]->safe_psql('postgres', $waits_for_lock =~ s/count\(\*\) = 1/pid/r);
	kill 'STOP', $pid;
	$coordinator->safe_psql('postgres', sprintf 'SELECT pg_cancel_backend(%d)', victim());
	$session->{input} .= "\\q\n";
	is(ended($session), '40003', "the shard $how: it is not known whether the call was made");
	like($session->{errors}, qr/canceled.*order_proc\.outcome/s, '  the message says why, and whom to ask');
	release($holder);
	kill $how eq 'hangs' ? 'CONT' : 'TERM', $pid;
	kill 'CONT', $pid;
	wait_for($shards[0], "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)");
	gives("SELECT count(order_proc.outcome(0, '$how'))", made($how) =~ tr/1//, '  outcome does');
}
{
	my $holder = hold($shards[0]);
	my $session = session(call('lost one') . ';');
	wait_for($shards[0], $waits_for_lock);
	$shards[0]->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'order_proc' AND state = 'active'");
	$session->{input} .= "\\q\n";
	is(ended($session), '40003', 'its session ends: neither is it known');
	release($holder);
}
not_at_call();

# The shard commits though it is cancelled: then the call succeeds, and the session lives until it has said so.
at_call(0, 0, 'BEGIN PERFORM pg_advisory_xact_lock(77); EXCEPTION WHEN query_canceled THEN NULL; END');
for my $how ('cancel', 'terminate') {
	my ($session, $state, $key) = stopped("$how late");
	is($state, $how eq 'cancel' ? '' : '57P01', "$how comes too late");
	like($session->{output}, $how eq 'cancel' ? qr/^\d+\ngoes on\n$/ : qr/^\d+\n$/, '  the client has the order');
	is(made($key), '100', '  which is there');
}
not_at_call();
is(prepared(), '000', 'nothing is prepared');

# --- nothing grows -----------------------------------------------------------------------------------------------

run('SELECT order_proc.recover()');
$_->safe_psql('postgres', 'TRUNCATE order_store.receipts') for @shards;
run(join "\n", map { 'BEGIN; ' . orders("grows $_", 0, 1) . 'COMMIT;' } 1 .. 30);
run(join "\n", map { 'BEGIN; INSERT INTO here VALUES (1); ' . orders("grows here $_", 0, 1) . 'COMMIT;' } 1 .. 30);
gives('SELECT count(*) FROM order_store.commit_log', '30', 'decisions stay without a worker');
is($_->safe_psql('postgres', 'SELECT count(*) FROM order_store.receipts'), '60', 'and receipts') for @shards[ 0, 1 ];
sleep 5.5;
run('BEGIN; SELECT order_proc.recover(); SELECT order_proc.recover(); ROLLBACK;');
gives('SELECT count(*) FROM order_store.commit_log', '30', 'recover() forgets them, and is rolled back: they are there again');
recovered('', '  and so are their receipts');
run('SELECT order_proc.recover()');
gives('SELECT count(*) FROM order_store.commit_log', '0', 'recover() forgets them');
is($_->safe_psql('postgres', 'SELECT count(*) FROM order_store.receipts'), '0', 'and their receipts') for @shards;
$coordinator->append_conf('postgresql.conf', 'order_proc.recovery_worker = on');
$coordinator->reload;
run(join "\n", map { 'BEGIN; ' . orders("worked $_", 0, 1) . 'COMMIT;' } 1 .. 3);
wait_for($_, 'SELECT count(*) = 0 FROM order_store.receipts') for @shards;
pass('a session that commits starts the worker, which forgets');

done_testing();
