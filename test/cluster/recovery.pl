# What a crash leaves behind, with real servers: a coordinator, two shards, and copies of the coordinator. Sessions and servers die
# between the phases of a commit; whatever was decided is carried out, whatever was not is rolled back, by recover() and by the
# workers; a shard that lost its part is reported; a server that was promoted goes on, and the one before is shut out, as is a copy.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Calls;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $canary = 'cAnArY-77a0';

# --- servers ---------------------------------------------------------------------------------------------------

sub make_node {
	my ($name, @settings) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(extra => [ '-E', 'UTF8', '--locale=C.UTF-8', '--no-sync' ], allows_streaming => 1);
	$node->append_conf('postgresql.conf', join "\n", 'max_prepared_transactions = 1200', 'fsync = off', 'autovacuum = off', "log_line_prefix = '%n [%p] %b %e '", 'restart_after_crash = on', @settings, '');
	unlink $node->data_dir . '/pg_hba.conf';
	$node->append_conf('pg_hba.conf', "local all clerk scram-sha-256\nlocal all all trust\nlocal replication all trust\n");
	$node->start;
	return $node;
}

# The coordinator decides; see deciders.pl for what a shard does.
my $coordinator = make_node('coordinator', 'order_proc.recovery_worker = off', 'order_proc.shards_decide = off');
$Calls::node = $coordinator;
my @shards = map { make_node("shard$_") } 0, 1;
$_->safe_psql('postgres', "SET log_statement = none; CREATE ROLE clerk LOGIN PASSWORD '$canary'; CREATE ROLE watcher LOGIN; GRANT pg_monitor TO watcher; CREATE ROLE guest LOGIN; "
	. "CREATE EXTENSION order_proc; SELECT order_proc.create_store(placement => 'modulo'); SELECT order_proc.grant_store('clerk', 'write');") for $coordinator, @shards;
$coordinator->safe_psql('postgres', 'CREATE EXTENSION postgres_fdw');
for my $n (0, 1) {
	$coordinator->safe_psql('postgres', sprintf "CREATE SERVER s$n FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '%s', port '%s', dbname 'postgres'); CREATE USER MAPPING FOR postgres SERVER s$n OPTIONS (user 'postgres'); "
		. "CREATE USER MAPPING FOR clerk SERVER s$n OPTIONS (user 'clerk', password '$canary'); GRANT USAGE ON FOREIGN SERVER s$n TO clerk;", $shards[$n]->host, $shards[$n]->port);
}
$coordinator->safe_psql('postgres', "SELECT order_proc.add_shard('s0'), order_proc.add_shard('s1')");
$coordinator->safe_psql('postgres', "SELECT order_proc.create_customer('Customer', c::text, id => c) FROM generate_series(0, 9) AS c");

# Customer 0 is on shard 0, customer 1 on shard 1.
sub order { my ($customer, $key) = @_; return "SELECT order_proc.create_order_with_items($customer, NULL, NULL, '{1}', '{1}', '{1}', idempotency_key => '$key') > 0; "; }
sub both { my ($key) = @_; return 'BEGIN; ' . order(0, $key) . order(1, $key) . 'COMMIT;'; }
# How many of the two orders under the key are there: by the tables.
sub made { my ($key) = @_; return join '', map { $_->safe_psql('postgres', "SELECT count(*) FROM order_store.idempotency_keys WHERE key = '$key'") } @shards; }
sub prepared { return join '', map { $_->safe_psql('postgres', "SELECT count(*) FROM pg_prepared_xacts WHERE gid LIKE 'opc%'") } @shards; }
sub recovered { my ($wanted, $name, %how) = @_; return gives('SELECT shard_id, action FROM order_proc.recover() ORDER BY 1, 2', $wanted, $name, %how); }
sub nothing_left {
	my ($name) = @_;
	is(prepared(), '00', "$name: nothing is left prepared");
	is($coordinator->safe_psql('postgres', 'SELECT count(*) FROM order_store.commit_log'), '0', "$name: no decision is left");
}

sub pid_of { my ($node, $name) = @_; return $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE application_name = '$name' AND pid <> pg_backend_pid()"); }

# --- between PREPARE and the decision -------------------------------------------------------------------------

# Shard 1 does not prepare before it gets a lock.
$shards[1]->safe_psql('postgres', <<'SQL');
CREATE FUNCTION public.slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(77); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER slowly AFTER INSERT ON order_store.orders DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.customer_id = 1) EXECUTE FUNCTION public.slowly();
SQL
sub one_is_prepared { wait_for($shards[0], "SELECT count(*) = 1 FROM pg_prepared_xacts WHERE gid LIKE 'opc2%'"); wait_for($shards[1], "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 77 AND NOT granted)"); }

for my $victim ('backend', 'postmaster') {
	my $holder = hold($shards[1]);
	my $session = session("SET order_proc.commit_timeout = '30s'; " . both("undecided $victim"));
	one_is_prepared();
	gives("SELECT decision FROM order_proc.in_doubt", 'running', "a $victim that is about to die: its transaction is running");
	recovered('', 'and left alone');
	my ($line) = slurp_file($coordinator->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	if ($victim eq 'backend') { crash($coordinator, pid_of($coordinator, 'victim')); }
	else { $coordinator->stop('immediate'); $coordinator->start; }
	release($holder);
	isnt(ended($session), '40003', "kill -9 of the $victim: the client has lost its connection");
	wait_for($shards[1], "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'order_proc')");
	gives("SELECT string_agg(DISTINCT decision, ',') FROM order_proc.in_doubt", 'rollback', 'without a decision it is to be rolled back');
	like(run('SELECT shard_id, action FROM order_proc.recover()')->{output}, qr/0\|rolled back/, 'and is');
	is(made("undecided $victim"), '00', 'no order was made');
	nothing_left("undecided, $victim");
}

# --- outcome -----------------------------------------------------------------------------------------------------

run(both('known'));
gives("SELECT order_proc.outcome(0, 'known') = (SELECT max(id) FROM order_proc.list_orders() WHERE customer_id = 0), order_proc.outcome(1, 'known') > 0, order_proc.outcome(0, 'unknown')", 't|t|', 'outcome: the order, or NULL');
gives("SET SESSION AUTHORIZATION clerk; SELECT order_proc.outcome(0, 'known') > 0", 't', 'outcome of clerk');
refused("SELECT order_proc.outcome(0, 'known')", '42501', 'outcome without rights', role => 'guest');
{
	my $holder = hold($shards[1]);
	my $session = session("SET order_proc.commit_timeout = '30s'; " . both('waited for'));
	one_is_prepared();
	refused("SET lock_timeout = 200; SELECT order_proc.outcome(0, 'waited for')", '55P03', 'outcome does not say NULL of what is prepared');
	refused("SET statement_timeout = 200; SELECT order_proc.outcome(0, 'waited for')", '57014', 'statement_timeout holds as well');
	my $asking = session("SELECT order_proc.outcome(0, 'waited for') > 0;\n\\q", name => 'asking');
	wait_for($shards[0], "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE '%outcome%' AND wait_event = 'transactionid')");
	release($holder);
	is(ended($session), '', 'it commits');
	is(ended($asking) . $asking->{output}, "t\n", 'and outcome that has waited has the order');
}

# --- between the decision and COMMIT PREPARED -----------------------------------------------------------------------

# A commit of the coordinator waits for a standby that does not come: it is decided, but no shard knows.
sub standby_missing { my ($missing) = @_; $coordinator->safe_psql('postgres', $missing ? "ALTER SYSTEM SET synchronous_standby_names = 'nobody'" : 'ALTER SYSTEM RESET synchronous_standby_names'); $coordinator->reload; sleep 1; }
sub decided_session {
	my ($key, %how) = @_;
	standby_missing(1);
	my $session = session(both($key), %how);
	wait_for($coordinator, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'victim' AND wait_event = 'SyncRep')");
	return $session;
}

for my $victim ('backend', 'postmaster') {
	my $session = decided_session("decided $victim");
	is(prepared(), '11', "decided, and not carried out: kill -9 of the $victim");
	if ($victim eq 'backend') { crash($coordinator, pid_of($coordinator, 'victim')); standby_missing(0); }
	else { $coordinator->stop('immediate'); $coordinator->append_conf('postgresql.auto.conf', "synchronous_standby_names = ''\n"); $coordinator->start; }
	ended($session);
	refused("SET lock_timeout = 200; SELECT order_proc.outcome(1, 'decided $victim')", '55P03', 'outcome does not say NULL');
	gives('SELECT DISTINCT decision FROM order_proc.in_doubt', 'commit', 'in doubt: to be committed');
	recovered("0|committed\n1|committed", 'recover commits it');
	is(made("decided $victim"), '11', 'both orders are there');
	gives("SELECT order_proc.outcome(1, 'decided $victim') > 0", 't', 'outcome has the order');
	nothing_left("decided, $victim");
}

# The wait for the standby is cancelled: what a standby may never hear of is not carried out.
{
	my $session = decided_session('withheld');
	$coordinator->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'victim'");
	$session->{input} .= "\\q\n";
	is(ended($session), '', 'a commit without its standby is a commit');
	like($session->{errors}, qr/WARNING:.*no synchronous standby has it yet/, 'with a warning');
	is(prepared(), '11', 'that the shards have yet to carry out');
	like(recovered('', 'recover waits for the standby as well'), qr/decisions wait for a synchronous standby/, 'and says so');
	is(prepared(), '11', 'nothing is ended');
	standby_missing(0);
	recovered("0|committed\n1|committed", 'when it does not need to wait it commits');
	is(made('withheld'), '11', 'both orders are there');
}

# A shard that hangs in COMMIT PREPARED, and dies.
sub half_carried_out {
	my ($key, %how) = @_;
	my $session = decided_session($key, %how);
	my $pid = $shards[1]->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE application_name = 'order_proc' AND query ~ '^PREPARE'");
	kill 'STOP', $pid;
	my $began = time;
	standby_missing(0);
	$session->{input} .= "\\q\n";
	is(ended($session), '', "$key: a commit although a shard hangs");
	cmp_ok(time - $began, '<', 20, 'after commit_timeout');
	like($session->{errors}, qr/WARNING:.*a shard has yet to carry it out/, 'with a warning');
	return $pid;
}
{
	my $pid = half_carried_out('hangs');
	crash($shards[1], $pid);
	is(prepared(), '01', 'one shard has carried it out');
	recovered('1|committed', 'recover does the rest');
	is(made('hangs'), '11', 'both orders are there');
	nothing_left('hangs');
}

# --- others' transactions, and forgeries ---------------------------------------------------------------------------

my $cluster = $coordinator->safe_psql('postgres', "SELECT lpad(to_hex(coordinator_id), 16, '0') FROM order_store.cluster");
my $nonces = 0;
sub base { return sprintf 'opc2_%s_%08x_%016x_%016x', $cluster, $_[0] // 1, 3, ++$nonces; }
sub prepare_by_hand {
	my ($base, $shard, %how) = @_;
	my $receipt = $how{key} ? "SELECT order_proc.write_receipt('${base}_000$shard', $how{key}, NULL, NULL);" : '';
	$shards[$shard]->safe_psql('postgres', ($how{role} ? "SET SESSION AUTHORIZATION $how{role};" : '') . "BEGIN; INSERT INTO order_store.customers (id, email) VALUES (@{[ 100 * $nonces + $shard ]}, '$base'); $receipt PREPARE TRANSACTION '${base}_000$shard'");
}
sub there { my ($base) = @_; return join '', map { $_->safe_psql('postgres', "SELECT count(*) FROM order_store.customers WHERE email = '$base'") } @shards; }
{
	my $base = base();
	prepare_by_hand($base, 0, role => 'clerk');
	prepare_by_hand($base, 1, role => 'clerk');
	recovered("0|rolled back\n1|rolled back", 'what clerk prepared is ended by clerk');
	is($shards[0]->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'order_proc' AND usename = 'clerk'"), '0', 'and no connection of his stays');
	$shards[0]->safe_psql('postgres', 'GRANT INSERT ON order_store.customers TO guest; GRANT USAGE ON SCHEMA order_store TO guest;');
	$base = base();
	prepare_by_hand($base, 0, role => 'guest');
	gives('SELECT shard_id, action FROM order_proc.recover()', '0|rolled back', 'what somebody prepared under a name of ours is rolled back by a superuser');
}

# --- the log ends with a page -----------------------------------------------------------------------------------------

# Where the next record would begin is behind the header of a page that is not there yet: it cannot be flushed up to there.
{
	my $full_page = q{DO $$ BEGIN WHILE (pg_current_wal_insert_lsn() - '0/0') % 8192 <> 24 LOOP PERFORM pg_logical_emit_message(false, '', repeat('x', (random() * 100)::int)); END LOOP; END $$};
	for my $end ([ 'a page', "$full_page;" ], [ 'a segment', 'SELECT pg_switch_wal() \\g /dev/null' ]) {
		my $base = base();
		prepare_by_hand($base, $_, role => 'clerk') for 0, 1;
		gives("$end->[1]\nSELECT shard_id, action FROM order_proc.recover() ORDER BY 1", "0|rolled back\n1|rolled back", "recover() when the log ends with $end->[0]");
	}
}

# --- lost by a shard ---------------------------------------------------------------------------------------------------

{
	my $session = decided_session('lost');
	my $gid = $shards[1]->safe_psql('postgres', "SELECT gid FROM pg_prepared_xacts WHERE gid LIKE 'opc2%'");
	# As a failover to a standby that did not have it.
	$shards[1]->safe_psql('postgres', "ROLLBACK PREPARED '$gid'");
	standby_missing(0);
	$session->{input} .= "\\q\n";
	ended($session);
	is(made('lost'), '10', 'a shard has lost its part of a decided transaction');
	recovered('1|damaged', 'recover reports the damage');
	recovered('1|damaged', 'again and again');
	gives('SELECT shard_id, decision, age > \'0\' FROM order_proc.in_doubt', '1|damaged|t', 'and so does in_doubt');
	# A receipt that somebody makes up proves nothing.
	$shards[1]->safe_psql('postgres', "SET SESSION AUTHORIZATION guest; SELECT order_proc.write_receipt('$gid', 1, NULL, NULL)");
	recovered('1|damaged', 'a forged receipt does not hide it');
	my ($base) = $gid =~ /^(.*)_/;
	$shards[0]->safe_psql('postgres', "SET SESSION AUTHORIZATION guest; SELECT order_proc.write_receipt('opc2_${cluster}_00000001_0000000000000001_0000000000000001_0000', 1, '$base', 1)");
	is($shards[0]->safe_psql('postgres', "SELECT count(*) FROM order_store.receipts WHERE gid = '$base'"), '1', 'nor can he remove a receipt');
	refused("SELECT order_proc.write_receipt('opc2_0000000000000001_00000001_0000000000000001_0000000000000001_0001', 1, NULL, NULL)", '22023', 'a receipt for another cluster', node => $shards[1]);
	refused('SET SESSION AUTHORIZATION guest; TABLE order_store.receipts', '42501', 'receipts are not for everybody', node => $shards[1]);
	refused('SELECT * FROM order_proc.in_doubt', '42501', 'nor is in_doubt', role => 'guest');
	gives('SELECT count(*) FROM order_proc.in_doubt', '1', 'but for pg_monitor', role => 'watcher');
	$coordinator->safe_psql('postgres', 'DELETE FROM order_store.commit_log');
	$shards[1]->safe_psql('postgres', "DELETE FROM order_store.receipts");
}

# --- one shard only ---------------------------------------------------------------------------------------------------------

{
	my $holder = hold($shards[1]);
	my $session = session('BEGIN; ' . order(1, 'unconfirmed') . 'COMMIT;');
	wait_for($shards[1], "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 77 AND NOT granted)");
	$shards[1]->safe_psql('postgres', "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'order_proc' AND query = 'COMMIT'");
	is(ended($session), '40003', 'FATAL while one shard commits: unknown');
	like($session->{errors}, qr/HINT:.*order_proc\.outcome/, 'with the way to find out');
	release($holder);
	gives("SELECT order_proc.outcome(1, 'unconfirmed')", '', 'here it was not made');
}
{
	my $began = time;
	my $holder = hold($shards[1]);
	my $errors = refused('BEGIN; ' . order(1, 'late') . 'COMMIT;', '40003', 'a shard that does not confirm its commit in time');
	cmp_ok(time - $began, '<', 20, 'is not waited for longer');
	release($holder);
	wait_for($shards[1], "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'order_proc' AND state <> 'idle')");
	# The shard's session may have noticed that nobody listens any more.
	gives("SELECT CASE WHEN order_proc.outcome(1, 'late') IS NULL THEN '00' ELSE '01' END", made('late'), 'outcome knows how it ended');
}
refused('BEGIN; ' . order(0, 'local') . "PREPARE TRANSACTION 'local';", '0A000', 'PREPARE TRANSACTION of what used shards');
is(made('local'), '00', 'nothing of it is there');

# --- nothing grows -------------------------------------------------------------------------------------------------------------

run(join "\n", map { both("grows $_") } 1 .. 20);
run(both("grows alone $_")) for 1 .. 3;
gives('SELECT count(*) FROM order_store.commit_log', '23', 'sessions leave their decisions');
recovered('', 'recover forgets what all shards have carried out');
sleep 5.5;
recovered('', 'and their receipts');
nothing_left('collected');
is($_->safe_psql('postgres', 'SELECT count(*) FROM order_store.receipts'), '0', 'no receipt is left') for @shards;

# --- a thousand ----------------------------------------------------------------------------------------------------------------

# How long it takes is measured in bench/run.
for my $shard (0, 1) {
	my $sql = join "\n", map { "BEGIN; INSERT INTO public.many VALUES ($_); PREPARE TRANSACTION '" . base() . "_000$shard';" } 1 .. 500;
	$shards[$shard]->safe_psql('postgres', "CREATE TABLE public.many (n int);\n$sql");
}
gives('SELECT count(*), min(action) FROM order_proc.recover()', '1000|rolled back', 'a thousand transactions are settled');
is(prepared(), '00', 'all of them');

# --- workers -------------------------------------------------------------------------------------------------------------------

my $has_worker = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'order_proc recovery worker')";
gives($has_worker, 'f', 'order_proc.recovery_worker is off: no worker');
$coordinator->append_conf('postgresql.conf', 'order_proc.recovery_worker = on');
$coordinator->reload;
# How soon is measured in test/failures/settle.pl.
sub settles { my ($name) = @_; my $began = time; while (prepared() ne '00' && time - $began < 60) { sleep 0.02; } is(prepared(), '00', "$name: settled"); }
gives('SELECT count(*) > 0 FROM order_proc.list_orders()', 't', 'a session uses shards');
wait_for($coordinator, $has_worker);
pass('and there is a worker, without shared_preload_libraries');
my $base = base();
prepare_by_hand($base, $_, role => 'clerk') for 0, 1;
settles('by a worker that a session started');
{
	my $pid = half_carried_out('by the worker');
	crash($shards[1], $pid);
	settles('after the crash of a shard');
	is(made('by the worker'), '11', 'both orders are there');
}
$coordinator->safe_psql('template1', 'CREATE DATABASE clone TEMPLATE postgres');
pass('CREATE DATABASE ... TEMPLATE goes although there is a worker');
$coordinator->append_conf('postgresql.conf', "shared_preload_libraries = 'order_proc'");
$coordinator->restart;
wait_for($coordinator, $has_worker);
pass('a launcher starts the worker by itself');
# The launcher looks once a minute.
$coordinator->append_conf('postgresql.conf', 'order_proc.recovery_worker = off');
$coordinator->reload;
wait_for($coordinator, "SELECT NOT ($has_worker)");
$coordinator->append_conf('postgresql.conf', 'order_proc.recovery_worker = on');
$coordinator->reload;
{
	my $began = time;
	wait_for($coordinator, $has_worker);
	cmp_ok(time - $began, '<', 30, 'and again when it is allowed to, at once');
}
{
	my $holder = hold($shards[1]);
	my $session = session("SET order_proc.commit_timeout = '30s'; " . both('launched'));
	one_is_prepared();
	$coordinator->stop('immediate');
	release($holder);
	ended($session);
	$coordinator->start;
	settles('after a crash of the coordinator, by itself');
	is(made('launched'), '00', 'as nothing was decided');
}

# --- copies ----------------------------------------------------------------------------------------------------------------------

my $copied = refused('SELECT order_proc.list_orders()', 'OP503', 'a clone by CREATE DATABASE ... TEMPLATE', database => 'clone');
like($copied, qr/HINT:.*order_proc\.adopt_cluster\(\)/, 'with the way on');
refused($_, 'OP503', "a clone: $_", database => 'clone') for 'SELECT * FROM order_proc.recover()', order(0, 'copy'), "SELECT order_proc.add_shard('s0')", 'SELECT * FROM order_proc.shard_status', 'SELECT * FROM order_proc.in_doubt', "SELECT order_proc.create_restore_point('copy')";
{
	my ($dump) = run_command([ 'pg_dump', '-d', $coordinator->connstr('postgres') ]);
	my $other = $shards[0];
	$other->safe_psql('postgres', 'CREATE DATABASE restored');
	my $file = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
	append_to_file($file, $dump);
	$other->command_ok([ 'psql', '-Xq', '-d', $other->connstr('restored'), '-f', $file ], 'a dump of the coordinator is restored on another server');
	refused('SELECT order_proc.list_orders()', 'OP503', 'and refused', node => $other, database => 'restored');
}
$coordinator->stop;
my $twin = PostgreSQL::Test::Cluster->new('twin');
system_or_bail('cp', '-a', $coordinator->data_dir, $twin->data_dir);
$twin->append_conf('postgresql.conf', sprintf "port = %d\nunix_socket_directories = '%s'\norder_proc.recovery_worker = off", $twin->port, $twin->host);
$coordinator->start;
gives('SELECT count(*) > 0 FROM order_proc.list_orders()', 't', 'the original of a copy of the files goes on');
$twin->start;
refused('SELECT order_proc.list_orders()', 'OP503', 'the copy is refused', node => $twin);
refused('SELECT * FROM order_proc.recover()', 'OP503', 'also when it would recover', node => $twin);
gives('SELECT count(*) > 0 FROM order_proc.list_orders()', 't', 'the original does not mind');

# Adopted: the original is shut out. What it left is ended where it is known how.
{
	$twin->stop;
	my $decided = decided_session('of the original');
	my $unknown = base();
	is(prepared(), '11', 'something is in doubt when the copy takes over');
	$twin->start;
	my $it = run('SELECT order_proc.adopt_cluster() > 0', node => $twin);
	is($it->{output}, 't', 'adopt_cluster') or diag $it->{errors};
	gives('SELECT count(*) > 0 FROM order_proc.list_orders()', 't', 'the copy is the coordinator', node => $twin);
	gives('SELECT DISTINCT decision FROM order_proc.in_doubt', 'unknown', 'what the original has prepared is unknown to it', node => $twin);
	gives('SELECT count(*) FROM order_proc.recover()', '0', 'and left alone', node => $twin);
	refused('SELECT order_proc.list_orders()', 'OP503', 'the original is shut out');
	standby_missing(0);
	$decided->{input} .= "\\q\n";
	is(ended($decided), '', 'a transaction of the original that was decided');
	like($decided->{errors}, qr/WARNING/, 'is not carried out by it any more');
	is(prepared(), '11', 'neither here nor there');
	my ($gid) = $shards[0]->safe_psql('postgres', "SELECT gid FROM pg_prepared_xacts WHERE gid LIKE 'opc2%'");
	$shards[0]->safe_psql('postgres', "COMMIT PREPARED '$gid'");
	gives('SELECT DISTINCT decision FROM order_proc.in_doubt', 'commit', 'once a shard has committed, its receipt proves the decision', node => $twin);
	recovered('1|committed', 'and the other follows', node => $twin);
	is(made('of the original'), '11', 'both orders are there');
	run(both('of the copy'), node => $twin);
	is(made('of the copy'), '11', 'the copy commits on both shards');
	recovered('', 'without anything in doubt', node => $twin);
}
$coordinator->stop('immediate');
$Calls::node = $coordinator = $twin;
$cluster = $coordinator->safe_psql('postgres', "SELECT lpad(to_hex(coordinator_id), 16, '0') FROM order_store.cluster");

# --- promotion ---------------------------------------------------------------------------------------------------------------------

$coordinator->append_conf('postgresql.conf', "shared_preload_libraries = ''\norder_proc.recovery_worker = off");
$coordinator->restart;
$coordinator->backup('before');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($coordinator, 'before', has_streaming => 1);
$standby->append_conf('postgresql.conf', "unix_socket_directories = '@{[ $standby->host ]}'");
$standby->start;
gives('SELECT count(*) > 0 FROM order_proc.list_orders()', 't', 'a standby of the coordinator reads', node => $standby);
# From the same backup, for later: what is decided from now on it does not know.
my $restored = PostgreSQL::Test::Cluster->new('from_backup');
$restored->init_from_backup($coordinator, 'before');

my $zombie = session("SELECT count(*) > 0 FROM order_proc.list_orders();", name => 'zombie');
wait_for($coordinator, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'zombie' AND state = 'idle')");
my $pid = half_carried_out('before the promotion');
crash($shards[1], $pid);
my $holder = hold($shards[1]);
my $caught = session("SET order_proc.commit_timeout = '30s'; " . both('caught by the promotion'), name => 'victim');
one_is_prepared();
$coordinator->wait_for_catchup($standby, 'replay', $coordinator->lsn('flush'));
$standby->promote;
gives(order(0, 'promoted'), 't', 'the promoted server goes on', node => $standby);
my $early = run('SELECT shard_id, action FROM order_proc.recover() ORDER BY 1', node => $standby)->{output};
is($early, "0|rolled back\n1|committed", 'it ends what the other has left: decided or not');
release($holder);
is(ended($caught), '', 'a commit of the server before, which does not know yet,');
like($caught->{errors}, qr/WARNING:.*has yet to carry it out/, 'is not carried out');
is(made('before the promotion'), '11', 'what was decided is there');
refused(order(0, 'zombie'), 'OP503', 'the server before is shut out');
like(refused('SELECT * FROM order_proc.recover()', 'OP503', 'and recovers nothing'), qr/promoted later/, 'because another was promoted');
$zombie->{input} .= "BEGIN; " . order(0, 'zombie') . order(1, 'zombie') . "COMMIT;\n\\q\n";
ended($zombie);
sleep 0.3;
gives('SELECT count(*) >= 0 FROM order_proc.recover()', 't', 'a session of it that was connected', node => $standby);
is(made('zombie'), '00', 'commits nothing on several shards');
is(made('caught by the promotion'), '00', 'what was not decided is not there');
run(both('by the new one'), node => $standby);
is(made('by the new one'), '11', 'the new one commits on both');

# --- a restored backup ------------------------------------------------------------------------------------------------------------------

$coordinator->stop('immediate');
$Calls::node = $coordinator = $standby;
$pid = half_carried_out('after the backup');
crash($shards[1], $pid);
is(prepared(), '01', 'decided after the backup: one shard has carried it out');
$standby->stop('immediate');
$restored->append_conf('postgresql.conf', "unix_socket_directories = '@{[ $restored->host ]}'\nrecovery_target_timeline = 'current'");
$restored->set_standby_mode;
$restored->start;
$restored->promote;
# The timeline of the standby that was promoted, once more: another server.
refused('SELECT order_proc.list_orders()', 'OP503', 'two servers that were promoted to one timeline are copies', node => $restored);
$restored->safe_psql('postgres', 'CHECKPOINT');
$restored->stop;
unlink $restored->data_dir . '/standby.signal';
$restored->set_standby_mode;
$restored->start;
$restored->promote;
gives('SELECT count(*) > 0 FROM order_proc.list_orders()', 't', 'restored from the backup, under a new timeline it is the coordinator', node => $restored);
gives("SELECT decision FROM order_proc.in_doubt WHERE gid LIKE '%\\_0001'", 'commit', 'a receipt tells it what was decided after its backup', node => $restored);
recovered('1|committed', 'and it does not roll it back', node => $restored);
is(made('after the backup'), '11', 'both orders are there');

# --- the end ----------------------------------------------------------------------------------------------------------

is(prepared(), '00', 'no prepared transaction is left');
unlike(slurp_file($_->logfile), qr/PANIC|TRAP|signal 11|signal 6/, $_->name . ' has not crashed by itself') for $coordinator, $standby, $restored, @shards;
done_testing();
