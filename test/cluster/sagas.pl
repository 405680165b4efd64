# create_order_with_compensation on a coordinator with two shards and on one database: what follows an order may fail, be
# cancelled, be killed with its session or its server; the order is there with its follow-up or not at all.
use strict;
use warnings;

use FindBin;
use IPC::Run ();
use lib $FindBin::RealBin;
use Calls;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

sub make_node {
	my ($name) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(extra => [ '-E', 'UTF8', '--locale=C.UTF-8', '--no-sync' ]);
	$node->append_conf('postgresql.conf', "max_prepared_transactions = 10\norder_proc.recovery_worker = off\nautovacuum = off\nclient_min_messages = warning\nrestart_after_crash = on\nlog_line_prefix = '%n [%p] %e '");
	$node->start;
	$node->safe_psql('postgres', "CREATE ROLE clerk LOGIN; CREATE ROLE keeper LOGIN; CREATE EXTENSION order_proc; SELECT order_proc.create_store(placement => 'modulo'), order_proc.grant_store('clerk', 'write');");
	return $node;
}
my $coordinator = make_node('coordinator');
$Calls::node = $coordinator;
$Calls::stop = 0;
my @shards = map { make_node("shard$_") } 0, 1;
$coordinator->safe_psql('template1', 'CREATE DATABASE single TEMPLATE postgres');
$coordinator->safe_psql('template1', 'CREATE DATABASE kept');
$coordinator->safe_psql('kept', "CREATE EXTENSION order_proc; SELECT order_proc.create_store('keeper'), order_proc.grant_store('clerk', 'write'); GRANT EXECUTE ON FUNCTION order_proc.recover() TO keeper;");
$coordinator->safe_psql('postgres', 'CREATE EXTENSION postgres_fdw');
for my $n (0, 1) {
	$coordinator->safe_psql('postgres', sprintf "CREATE SERVER s%1\$d FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '%2\$s', port '%3\$s', dbname 'postgres'); CREATE USER MAPPING FOR CURRENT_USER SERVER s%1\$d;
		CREATE USER MAPPING FOR clerk SERVER s%1\$d OPTIONS (user 'clerk', password_required 'false'); GRANT USAGE ON FOREIGN SERVER s%1\$d TO clerk; SELECT order_proc.add_shard('s%1\$d');", $n, $shards[$n]->host, $shards[$n]->port);
}
my @databases = ('postgres', 'single', 'kept');
for my $database (@databases) {
	$coordinator->safe_psql($database, <<'SQL');
SELECT order_proc.create_customer('A', 'B', NULL, 1), order_proc.create_customer('C', 'D', NULL, 2);
CREATE TABLE shipped (order_id bigint, by_role text DEFAULT current_user, path text DEFAULT current_setting('search_path'));
GRANT INSERT ON shipped TO PUBLIC;
CREATE FUNCTION ship(o bigint) RETURNS void LANGUAGE sql AS 'INSERT INTO public.shipped (order_id) VALUES (o)';
CREATE FUNCTION fail(o bigint) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM public.ship(o); RAISE EXCEPTION 'sold out' USING ERRCODE = 'P0001', DETAIL = 'None left.', HINT = 'Order less.'; END $$;
CREATE FUNCTION stall(o bigint) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM public.ship(o); PERFORM pg_catalog.pg_sleep(600); END $$;
CREATE FUNCTION another(o bigint) RETURNS bigint LANGUAGE sql AS $$ SELECT order_proc.create_order_with_items(2, NULL, NULL, '{9}', '{1}', '{1}') $$;
CREATE FUNCTION remove(o bigint) RETURNS boolean LANGUAGE sql AS 'SELECT order_proc.delete_order(o)';
CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'too late' USING ERRCODE = '23514'; END $$;
CREATE TABLE never (order_id bigint);
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON never DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late();
CREATE FUNCTION fail_late(o bigint) RETURNS void LANGUAGE sql AS 'INSERT INTO public.never VALUES (o)';
CREATE FUNCTION only_mine(o bigint) RETURNS void LANGUAGE sql AS 'SELECT public.ship(o)';
REVOKE EXECUTE ON FUNCTION only_mine FROM PUBLIC;
CREATE PROCEDURE a_procedure(o bigint) LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION two(a bigint, b text) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION more(a bigint, b text DEFAULT 'x') RETURNS void LANGUAGE sql AS 'SELECT public.ship(a)';
SQL
}

sub order { my ($follow_up, $customer) = @_; return "CALL order_proc.create_order_with_compensation(NULL, @{[ $customer // 1 ]}, NULL, NULL, '{7}', '{2}', '{1.50}', $follow_up);"; }
my $state = "SELECT (SELECT sum(orders) FROM order_proc.order_counts()), (SELECT count(*) FROM shipped), (SELECT count(*) FROM order_store.sagas)";
my %expected = map { $_ => [ 0, 0 ] } @databases;
sub state_is {
	my ($database, $orders, $shipped, $name, $sagas) = @_;
	$expected{$database}[0] += $orders;
	$expected{$database}[1] += $shipped;
	my $count = $expected{$database}[0] || '';
	gives($state, join('|', $count, $expected{$database}[1], $sagas // 0), "$database: $name", database => $database);
}

# --- what may come of it ------------------------------------------------------------------------------------------

for my $database (@databases) {
	my %how = (database => $database);
	like(run(order("'ship(bigint)'"), %how)->{output}, qr/^\d+$/, 'the id is given back');
	state_is($database, 1, 1, 'an order and its follow-up');
	gives('SELECT DISTINCT by_role, path FROM shipped', 'postgres|pg_catalog, pg_temp', 'the follow-up runs as the caller, its search_path is locked', %how);
	for my $case ([ 'fail(bigint)', 'P0001' ], [ 'fail_late(bigint)', '23514' ]) {
		my $it = run(order("'$case->[0]'"), %how);
		is($it->{state}, $case->[1], "$case->[0]: its error is raised");
		like($it->{errors}, qr/HINT:.*Order \d+ was deleted again/, 'with a HINT');
		like($it->{errors}, qr/None left\..*HINT:\s+Order less\. Order/s, 'beside its own and its DETAIL') if $case->[1] eq 'P0001';
	}
	state_is($database, 0, 0, 'nothing is left of failures');
	is(run(order("'another(bigint)'"), %how)->{state}, '', 'a follow-up that writes on another shard');
	state_is($database, 2, 0, 'is atomic with the end of the saga');
	is(run(order("'remove(bigint)'"), %how)->{state}, '', 'one that deletes the order itself');
	state_is($database, 0, 0, 'may do so');
	is(run(order("'more(bigint,text)'"), %how)->{state}, '', 'defaults');
	state_is($database, 1, 1, 'are taken');
	is(run("SET statement_timeout = 300; " . order("'stall(bigint)'"), %how)->{state}, '57014', 'a follow-up that takes too long');
	state_is($database, 0, 0, 'leaves nothing');
	is(run($_->[0], %how)->{state}, $_->[1], $_->[0]) for [ 'BEGIN; ' . order("'ship(bigint)'"), '2D000' ], [ order('NULL'), '22004' ], [ order('4294967295::oid::regprocedure'), '42883' ], [ order("'a_procedure(bigint)'"), '42809' ],
		[ order("'two(bigint,text)'"), '22023' ], [ order("'late()'"), '22023' ], [ order("'pg_catalog.int4up(integer)'"), '22023' ], [ order("'ship(bigint)'", 99), '23503' ], [ order("'ship(bigint)'", 'NULL'), '22004' ];
	is(run(order("'pg_catalog.sum(bigint)'"), %how)->{state}, '42809', 'an aggregate');
	is(run(order("'only_mine(bigint)'"), %how, role => 'clerk')->{state}, '42501', 'EXECUTE on the follow-up is needed');
	is(run(order("'ship(bigint)'"), %how, role => 'clerk')->{state}, '', 'a role that may write');
	state_is($database, 1, 1, 'uses it');
	$coordinator->safe_psql($database, 'REVOKE DELETE ON order_store.orders FROM clerk');
	is(run(order("'ship(bigint)'"), %how, role => 'clerk')->{state}, '42501', 'who may not delete may not begin');
	$coordinator->safe_psql($database, 'GRANT DELETE ON order_store.orders TO clerk');
	is(run($_, %how, role => 'clerk')->{state}, '42501', $_) for 'TABLE order_store.sagas', 'DELETE FROM order_store.sagas', "INSERT INTO order_store.sagas (order_id, step, compensation, recorded_by) VALUES (1, 'x', 'x', 'postgres')";
	state_is($database, 0, 0, 'nothing is left of refused calls');
	gives("DO \$\$ DECLARE o bigint; BEGIN @{[ order(qq('ship(bigint)')) =~ s/NULL/o/r ]} ASSERT o > 0; BEGIN NULL; EXCEPTION WHEN OTHERS THEN NULL; END; END \$\$; SELECT 1", 1, 'from a DO block', %how);
	state_is($database, 1, 1, 'an order');
}

# The session on the shard has ended before the order is deleted: that shows at its first use only, since it is stopped until then.
{
	my $shard = $shards[1]->connstr('postgres');
	$coordinator->safe_psql('postgres', <<"SQL");
CREATE FUNCTION hang_up(o bigint) RETURNS void LANGUAGE plpgsql AS \$body\$ BEGIN
	EXECUTE \$sql\$COPY (SELECT 1) TO PROGRAM \$program\$cat; for p in \$(psql -XAtq -d "$shard" -c "SELECT pid FROM pg_stat_activity WHERE application_name = 'order_proc'"); do kill -STOP \$p; kill -TERM \$p; (sleep 0.3; kill -CONT \$p) >/dev/null 2>&1 </dev/null & done\$program\$\$sql\$;
	RAISE EXCEPTION 'hung up' USING ERRCODE = 'P0002';
END \$body\$;
SQL
	my $it = run(order("'hang_up(bigint)'"));
	is($it->{state}, 'P0002', 'a follow-up that fails, on a shard whose session has ended');
	like($it->{errors}, qr/Order \d+ was deleted again/, 'the order is taken back');
	state_is('postgres', 0, 0, 'by another session');
}

# --- crashes ------------------------------------------------------------------------------------------------------------

sub stalled {
	my ($database, $role, $do) = @_;
	my $input = '';
	my $run = IPC::Run::start([ 'psql', '-XAtq', '-d', $coordinator->connstr($database), '-U', $role, '-c', order("'stall(bigint)'") ], '<', \$input, '>', '/dev/null', '2>', \my $errors);
	$coordinator->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = '$database' AND wait_event = 'PgSleep' AND query LIKE 'CALL%')");
	my $pid = $coordinator->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE datname = '$database' AND wait_event = 'PgSleep' AND query LIKE 'CALL%'");
	$do->($pid);
	$run->finish;
}
my %by = (postgres => 'postgres', single => 'postgres', kept => 'keeper');
for my $database (@databases) {
	my %how = (database => $database, role => $by{$database});
	for my $role ('postgres', 'clerk') {
		stalled($database, $role, sub {
			my ($pid) = @_;
			state_is($database, 1, 0, "while the follow-up of $role runs", 1);
			gives('SELECT * FROM order_proc.recover()', '', 'recover() leaves it alone', %how);
			$coordinator->safe_psql('postgres', "SELECT pg_terminate_backend($pid, 5000)");
		});
		state_is($database, 0, 0, "its session was ended: the order is there, and the saga", 1);
		gives("SELECT gid ~ '^saga \\d+\$', shard_id, action FROM order_proc.recover()", 't|' . ($database eq 'postgres' ? 1 : '') . '|compensated', 'recover() takes it back', %how);
		state_is($database, -1, 0, 'once');
		gives('SELECT * FROM order_proc.recover()', '', 'a second time there is nothing to do', %how);
	}
	stalled($database, 'clerk', sub { crash($coordinator, $_[0]) });
	state_is($database, 1, 0, 'the server crashed', 1);
	gives('SELECT action FROM order_proc.recover()', 'compensated', 'recover() takes it back', %how);
	state_is($database, -1, 0, 'as before');
}

# A saga between its transactions is not taken back: its session is alive.
$coordinator->safe_psql('single', q{CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(2); RETURN NULL; END $$; CREATE TRIGGER wait BEFORE DELETE ON order_store.sagas FOR EACH STATEMENT EXECUTE FUNCTION wait();});
{
	my $input = '';
	my $run = IPC::Run::start([ 'psql', '-XAtq', '-d', $coordinator->connstr('single'), '-c', order("'ship(bigint)'") ], '<', \$input, '>', '/dev/null', '2>', \my $errors);
	$coordinator->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = 'single' AND wait_event = 'PgSleep')");
	gives('SELECT * FROM order_proc.recover()', '', 'recover() leaves a saga of a living session alone', database => 'single');
	$run->finish;
	is($errors, '', 'which goes on');
}
$coordinator->safe_psql('single', 'DROP TRIGGER wait ON order_store.sagas');
state_is('single', 1, 1, 'to its end');

# --- what cannot be taken back now ---------------------------------------------------------------------------------------

$coordinator->safe_psql('single', q{CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'kept by %', current_user; END $$; CREATE TRIGGER keep BEFORE DELETE ON order_store.orders FOR EACH ROW EXECUTE FUNCTION keep();});
{
	my $it = run(order("'fail(bigint)'"), database => 'single', role => 'clerk');
	is($it->{state}, 'P0001', 'a compensation that fails: the error of the follow-up');
	like($it->{errors}, qr/sold out.*HINT:.*is still there \(kept by clerk\).*recover/s, 'and what is to be done');
	state_is('single', 1, 0, 'the order is there, the saga is', 1);
	gives('SELECT action FROM order_proc.recover(); SELECT attempts, last_error, recorded_by FROM order_store.sagas', "failed\n2|kept by clerk|clerk", 'recover() tries as the role that recorded it', database => 'single');
	is(run("ALTER EXTENSION order_proc UPDATE TO '1.7'", database => 'single')->{state}, '55000', 'no way down with an open saga');
	$coordinator->safe_psql('single', 'DROP TRIGGER keep ON order_store.orders');
	gives('SELECT action FROM order_proc.recover()', 'compensated', 'and again', database => 'single');
	state_is('single', -1, 0, 'until it can');
}

# The owner of the store writes a row in the name of a superuser: it runs with his own rights.
$coordinator->safe_psql('kept', q{SET ROLE keeper; CREATE FUNCTION order_store.rise() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'ALTER ROLE keeper SUPERUSER'; RETURN OLD; END $$; CREATE TRIGGER rise BEFORE DELETE ON order_store.orders FOR EACH ROW EXECUTE FUNCTION order_store.rise();});
my $victim = run('SELECT id FROM order_proc.list_orders() LIMIT 1', database => 'kept')->{output};
$coordinator->safe_psql('kept', "SET ROLE keeper; INSERT INTO order_store.sagas (order_id, step, compensation, recorded_by) VALUES ($victim, '', 'ALTER ROLE keeper SUPERUSER', 'postgres')");
gives("SELECT action FROM order_proc.recover(); SELECT rolsuper FROM pg_roles WHERE rolname = 'keeper'", "failed\nf", 'a forged saga raises nobody, whoever calls recover()', database => 'kept');
$coordinator->safe_psql('kept', 'DROP TRIGGER rise ON order_store.orders; DELETE FROM order_store.sagas;');
# A role that lost its rights, or is gone.
stalled('kept', 'clerk', sub { $coordinator->safe_psql('postgres', "SELECT pg_terminate_backend($_[0], 5000)") });
$coordinator->safe_psql('kept', 'REVOKE DELETE ON order_store.orders FROM clerk');
gives('SELECT action FROM order_proc.recover()', 'failed', 'a role that may not delete any more', database => 'kept');
$coordinator->safe_psql('kept', 'GRANT DELETE ON order_store.orders TO clerk');
gives('SELECT action FROM order_proc.recover()', 'compensated', 'and may again', database => 'kept');

# A shard that is down: later.
$coordinator->safe_psql('postgres', q{CREATE FUNCTION cut(o bigint) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1); RAISE EXCEPTION 'cut'; END $$});
{
	my $input = '';
	my $run = IPC::Run::start([ 'psql', '-XAtq', '-d', $coordinator->connstr('postgres'), '-c', order("'cut(bigint)'") ], '<', \$input, '>', '/dev/null', '2>', \my $errors);
	$coordinator->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE 'CALL%')");
	$shards[1]->stop('immediate');
	$run->finish;
	like($errors, qr/cut.*is still there/s, 'a shard that is down meanwhile');
	gives('SELECT count(*) FROM order_store.sagas', 1, 'the saga stays');
	$shards[1]->start;
	gives('SELECT action FROM order_proc.recover()', 'compensated', 'recover() once the shard is up');
	state_is('postgres', 0, 0, 'nothing is left');
}
# An order that its shard may have yet to commit: something of the cluster is prepared there, by a transaction that runs.
my $running = session('BEGIN; SELECT pg_current_xact_id();', name => 'running', node => $coordinator, database => 'postgres');
wait_for($coordinator, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'running' AND backend_xid IS NOT NULL)");
my $prepared = $coordinator->safe_psql('postgres', "SELECT format('opc2_%s_%s_%s_aaaaaaaaaaaaaaaa_0001', lpad(to_hex(coordinator_id), 16, '0'), lpad(to_hex((SELECT timeline_id FROM pg_control_checkpoint())), 8, '0'), lpad(to_hex((SELECT backend_xid::text::bigint FROM pg_stat_activity WHERE application_name = 'running')), 16, '0')) FROM order_store.cluster");
$shards[1]->safe_psql('postgres', "BEGIN; INSERT INTO order_store.customers (id) VALUES (333); PREPARE TRANSACTION '$prepared'");
$coordinator->safe_psql('postgres', "INSERT INTO order_store.sagas (order_id, step, compensation, recorded_by) VALUES (4096000001, '', 'SELECT order_proc.delete_order(4096000001)', 'postgres')");
gives('SELECT action FROM order_proc.recover(); SELECT last_error FROM order_store.sagas', "failed\norder 4096000001 may be part of a transaction in doubt", 'one that may come is waited for');
gives(order("'fail(bigint)'") . 'SELECT count(*) FROM order_store.sagas', 1, 'one that is there is deleted meanwhile');
$shards[1]->safe_psql('postgres', "ROLLBACK PREPARED '$prepared'");
release($running);
gives('SELECT action FROM order_proc.recover()', 'compensated', 'one that did not come is no more waited for');
state_is('postgres', 0, 0, 'no order is missing');
gives('SELECT count(*) FROM pg_prepared_xacts', 0, 'nothing is left prepared', node => $_) for @shards;

# The worker does it by itself.
$coordinator->append_conf('postgresql.conf', 'order_proc.recovery_worker = on');
$coordinator->reload;
run('SELECT count(*) FROM order_proc.list_orders()');
stalled('postgres', 'clerk', sub { $coordinator->safe_psql('postgres', "SELECT pg_terminate_backend($_[0], 5000)") });
ok($coordinator->poll_query_until('postgres', 'SELECT count(*) = 0 FROM order_store.sagas'), 'a worker takes back what a session left');
state_is('postgres', 0, 0, 'all of it');

is(run("ALTER EXTENSION order_proc UPDATE TO '1.7'; ALTER EXTENSION order_proc UPDATE", database => 'single')->{state}, '', 'down and up without open sagas');
$_->stop for $coordinator, @shards;
is(join("\n", grep { / XX\d{3} (?:ERROR|FATAL|PANIC)|PANIC:/ } split /\n/, slurp_file($_->logfile)), '', 'no internal error in the log of ' . $_->name) for $coordinator, @shards;

done_testing();
