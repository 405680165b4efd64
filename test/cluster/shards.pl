# A coordinator and four shards, real servers, against one database with the same calls: same results, same errors, and a
# transaction over several shards that is whole or not there. Cancels, broken connections and shards that are down or
# hang; rights and passwords.
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

my $canary = 'cAnArY-5f1c';

# --- servers ---------------------------------------------------------------------------------------------------

sub make_node {
	my ($name, $prepared) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(extra => [ '-E', 'UTF8', '--locale=C.UTF-8', '--no-sync' ]);
	$node->append_conf('postgresql.conf', <<"CONF");
max_prepared_transactions = $prepared
fsync = off
autovacuum = off
log_line_prefix = '%n [%p] %e '
log_statement = all
order_proc.recovery_worker = off
client_min_messages = warning
CONF
	unlink $node->data_dir . '/pg_hba.conf';
	$node->append_conf('pg_hba.conf', "local all clerk scram-sha-256\nlocal all all trust\n");
	$node->start;
	return $node;
}

my $coordinator = make_node('coordinator', 0);
$Calls::node = $coordinator;
my @shards = map { make_node("shard$_", 20) } 0 .. 3;
my $store = "CREATE EXTENSION order_proc; SELECT order_proc.create_store(placement => 'modulo');";
$_->safe_psql('postgres', "SET log_statement = none; CREATE ROLE clerk LOGIN PASSWORD '$canary'; CREATE ROLE guest LOGIN;") for $coordinator, @shards;
$shards[0]->safe_psql('postgres', "CREATE DATABASE $_") for qw(plain old hashed);
$_->safe_psql('postgres', $store) for $coordinator, @shards;
$coordinator->safe_psql('template1', "CREATE DATABASE $_ TEMPLATE postgres") for qw(single unprepared strange);
$shards[0]->safe_psql('template1', "CREATE DATABASE $_ TEMPLATE postgres") for qw(filled taken);
$shards[0]->safe_psql('old', "CREATE EXTENSION order_proc VERSION '1.6'; SELECT order_proc.create_store(placement => 'modulo');");
$shards[0]->safe_psql('hashed', 'CREATE EXTENSION order_proc; SELECT order_proc.create_store();');
$shards[0]->safe_psql('filled', "SELECT order_proc.create_customer('A', 'B', id => 3)");

sub options { my ($node, $database) = @_; return sprintf "OPTIONS (host '%s', port '%s', dbname '%s')", $node->host, $node->port, $database; }
sub make_server {
	my ($database, $server, $node, $its) = @_;
	$coordinator->safe_psql($database, "CREATE EXTENSION IF NOT EXISTS postgres_fdw; CREATE SERVER $server FOREIGN DATA WRAPPER postgres_fdw "
		. options($node, $its) . "; CREATE USER MAPPING FOR CURRENT_USER SERVER $server;");
}
make_server('postgres', "s$_", $shards[$_], 'postgres') for 0 .. 3;
make_server('postgres', $_, $shards[0], $_) for qw(plain old hashed filled taken);
make_server('postgres', 'itself', $coordinator, 'postgres');
make_server('postgres', 'unprepared', $coordinator, 'unprepared');
make_server('strange', 'taken', $shards[0], 'taken');
$coordinator->safe_psql('strange', "SELECT order_proc.add_shard('taken')");
# Of other locales than the coordinator's; and a server that hashes otherwise.
$coordinator->safe_psql('postgres', 'CREATE DATABASE hashing');
$coordinator->safe_psql('hashing', 'CREATE EXTENSION order_proc; SELECT order_proc.create_store();');
make_server('hashing', 'hashed', $shards[0], 'hashed');
my %foreign = (collated => "LC_COLLATE 'C'", typed => "LC_CTYPE 'C'", icu => "LOCALE_PROVIDER icu ICU_LOCALE 'und'");
for my $name (sort keys %foreign) {
	$shards[0]->safe_psql('postgres', "CREATE DATABASE $name TEMPLATE template0 $foreign{$name}");
	$shards[0]->safe_psql($name, $store);
	make_server('postgres', $name, $shards[0], $name);
}
$coordinator->safe_psql('postgres', "CREATE SERVER nowhere FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '/nonexistent', dbname 'x'); CREATE USER MAPPING FOR CURRENT_USER SERVER nowhere;");

# --- add_shard --------------------------------------------------------------------------------------------------

refused("SELECT order_proc.add_shard('none')", '42704', 'add_shard: an unknown server');
refused("SELECT order_proc.add_shard('itself')", '55000', 'add_shard: the coordinator');
refused("SELECT order_proc.add_shard('plain')", '55000', 'add_shard: no extension');
refused("SELECT order_proc.add_shard('old')", '55000', 'add_shard: another version');
refused("SELECT order_proc.add_shard('hashed')", '55000', 'add_shard: another placement');
refused("SELECT order_proc.add_shard('unprepared')", '55000', 'add_shard: max_prepared_transactions 0');
refused("SELECT order_proc.add_shard('taken')", '55000', 'add_shard: of another cluster');
for my $case ([ 'collated', 'its LC_COLLATE is C, ours C\.UTF-8' ], [ 'typed', 'its LC_CTYPE is C, ours C\.UTF-8' ], [ 'icu', 'its locale provider is icu, ours libc' ]) {
	like(refused("SELECT order_proc.add_shard('$case->[0]')", '55000', "add_shard: of another locale, $case->[0]"), qr/$case->[1]\n.*HINT:.*locale/s, '  it names both');
}
{
	my $slots = sub { $shards[0]->safe_psql('hashed', 'CREATE OR REPLACE FUNCTION order_proc.slot_for_customer(customer_id bigint) RETURNS integer LANGUAGE ' . $_[0]); };
	my ($definition) = $shards[0]->safe_psql('hashed', q{SELECT pg_get_functiondef('order_proc.slot_for_customer(bigint)'::regprocedure)});
	$slots->(q{sql AS 'SELECT CASE customer_id WHEN 42 THEN 5 ELSE (hashint8extended(customer_id, 0) & 4095)::int END'});
	like(refused("SELECT order_proc.add_shard('hashed')", '55000', 'add_shard: a server that hashes otherwise', database => 'hashing'), qr/customer 42 slot 5, not 3784/, '  by the frozen vectors');
	$shards[0]->safe_psql('hashed', $definition);
	gives("BEGIN; SELECT order_proc.add_shard('hashed'); ROLLBACK", '0', '  else it can be added', database => 'hashing');
}
$coordinator->safe_psql('postgres', 'CREATE SERVER unmapped FOREIGN DATA WRAPPER postgres_fdw ' . options($shards[0], 'postgres'));
like(refused("SELECT order_proc.add_shard('unmapped')", '42704', 'add_shard: no user mapping'), qr/HINT:  CREATE USER MAPPING FOR \S+ SERVER unmapped /, '  and how to make one');
refused("SELECT order_proc.add_shard('nowhere')", '08001', 'add_shard: unreachable');
refused('SELECT order_proc.add_shard(NULL)', '22004', 'add_shard: NULL');
$coordinator->safe_psql('postgres', 'GRANT EXECUTE ON FUNCTION order_proc.add_shard(name) TO guest; GRANT USAGE ON FOREIGN SERVER s0 TO guest;');
refused("SELECT order_proc.add_shard('s0')", '42501', 'add_shard: not the owner of the store', role => 'guest');
$coordinator->safe_psql('postgres', 'REVOKE EXECUTE ON FUNCTION order_proc.add_shard(name) FROM guest;');
refused("SELECT order_proc.create_customer('A', 'B', id => 3); SELECT order_proc.add_shard('s0')", '55000', 'add_shard: the coordinator holds customers');
$coordinator->safe_psql('postgres', 'DELETE FROM order_store.customers');

run("BEGIN; SELECT order_proc.add_shard('s0'); SELECT order_proc.add_shard('s1'); ROLLBACK;");
gives('SELECT count(*) FROM order_store.cluster', '0', 'add_shard rolled back: nothing is on the shard', node => $_) for @shards[ 0, 1 ];
gives('SELECT count(*) FROM order_store.cluster', '0', 'and nothing here');
gives(join("\n", 'BEGIN;', (map { "SELECT order_proc.add_shard('s$_');" } 0 .. 3), 'COMMIT;'), "0\n1\n2\n3", 'four shards in one transaction');
refused("SELECT order_proc.add_shard('s1')", '42710', 'add_shard: a shard already');
refused("SELECT order_proc.add_shard('filled')", '55000', 'add_shard: a later shard that is not empty');
gives('SELECT count(*) FROM generate_series(-5000, 5000) AS c WHERE order_proc.shard_for_customer(c) <> ((c % 4) + 4) % 4', '0', 'a customer is on shard customer_id % 4');
gives('SELECT order_proc.shard_id()', $_, "shard $_ knows its id", node => $shards[$_]) for 0 .. 3;
gives('SELECT string_agg(concat_ws(\' \', id, server, reachable, version = layout, orders, in_doubt), \', \' ORDER BY id) FROM order_proc.shard_status',
	join(', ', map { "$_ s$_ t t 0 0" } 0 .. 3), 'shard_status');

my $ask = q{SELECT count(*) FROM order_proc.fan_out('SELECT 1') AS t(n int)};
like(refused('SELECT order_proc.adopt_cluster()', '55000', 'adopt_cluster on a shard', node => $shards[2]), qr/this database is shard 2 of cluster \d+\n.*HINT:  Call adopt_cluster on the coordinator/s, '  it says so');
refused('SELECT order_proc.adopt_cluster()', '55000', 'adopt_cluster without a cluster', database => 'single');

# A foreign server that is gone, under any name; a session that saw it go finds it again.
for my $case ([ 'DROP SERVER s0 CASCADE', "CREATE SERVER s0 FOREIGN DATA WRAPPER postgres_fdw @{[ options($shards[0], 'postgres') ]}; CREATE USER MAPPING FOR CURRENT_USER SERVER s0" ], [ 'ALTER SERVER s0 RENAME TO s0_gone', 'ALTER SERVER s0_gone RENAME TO s0' ]) {
	my ($away, $back) = @$case;
	my @calls = ('SELECT count(*) FROM order_proc.list_orders();', q{SELECT count(*) FROM order_proc.fan_out('SELECT 1') AS t(n int);}, 'SELECT order_proc.get_order(4096);', q{SELECT count(*) FROM order_proc.fan_out_aggregate('SELECT count(*) FROM order_store.orders') AS t(n bigint);}, q{SELECT count(*) FROM order_proc.fan_out_exec('DELETE FROM order_store.orders');});
	my $warn = q{SELECT count(*) FROM order_proc.fan_out('SELECT 1', NULL, 'warn') AS t(n int);};
	my $status = q{SELECT string_agg(concat_ws(' ', id, server, reachable), ', ' ORDER BY id) FROM order_proc.shard_status;};
	my $it = run("$warn $away; @calls $warn $status $back; $warn $status $calls[0]", stop => 0);
	is($it->{output}, "4\n3\n0 s0 f, 1 s1 t, 2 s2 t, 3 s3 t\n4\n0 s0 t, 1 s1 t, 2 s2 t, 3 s3 t\n0", "$away: the other shards, and all of them again") or diag $it->{errors};
	my @said = $it->{errors} =~ /(?:ERROR|WARNING):  (\S+: [^\n]*\n(?:psql:\S+ )?HINT:  TABLE order_store.shards)/g;
	is(scalar(grep { /^42704: the foreign server of shard 0 does not exist/ } @said), @calls + 1, '  every call says which is gone') or diag $it->{errors};
	unlike($it->{errors}, qr/XX000/, '  none with an internal error');
	run("$away");
	my $other = session($warn, name => 'other');
	wait_for($coordinator, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'other' AND state = 'idle' AND query LIKE '%fan_out%')");
	run($back);
	$other->{input} .= "$warn\n\\q\n";
	ended($other);
	is($other->{output}, "3\n4\n", '  another session as well');
}
{
	my $it = run("$ask; ALTER SERVER s0 OPTIONS (ADD keepalives '1'); DROP USER MAPPING FOR CURRENT_USER SERVER s0; $ask; CREATE USER MAPPING FOR CURRENT_USER SERVER s0; ALTER SERVER s0 OPTIONS (DROP keepalives); $ask;", stop => 0);
	like($it->{errors}, qr/42704: user mapping not found for user \S+, server "s0".*HINT:  CREATE USER MAPPING FOR \S+ SERVER s0 /s, 'a call without a user mapping');
	is($it->{output}, "4\n4", '  until there is one') or diag $it->{errors};
	$it = run("DROP USER MAPPING FOR CURRENT_USER SERVER s0; SELECT count(*) FROM order_proc.fan_out('SELECT 1', NULL, 'warn') AS t(n int); SELECT server, reachable FROM order_proc.shard_status ORDER BY 1; CREATE USER MAPPING FOR CURRENT_USER SERVER s0; $ask", stop => 0);
	is($it->{output}, "3\ns0|f\ns1|t\ns2|t\ns3|t\n4", "  which leaves its shard out of fan_out('warn'), and shard_status tells of it");
	like($it->{errors}, qr/WARNING:  08001: could not connect to shard 0 \(server "s0"\)\s+DETAIL:  The caller has no user mapping for its server\./, '  as a WARNING');
}

# A new session's fan_out looks at what the coordinator knows of its shards, and at no other table; what goes by the slot needs the map.
for my $change ('ALTER TABLE order_store.slot_map RENAME COLUMN slot TO renamed', 'ALTER TABLE order_store.orders RENAME TO renamed', 'DROP TRIGGER cluster_changed ON order_store.slot_map') {
	gives("BEGIN; $change; $ask; ROLLBACK;", '4', "fan_out: $change");
	refused("BEGIN; $change; $ask; SELECT order_proc.shard_for_customer(1); ROLLBACK;", 'OP002', "shard_for_customer: $change");
	refused("BEGIN; $change; $ask; SELECT order_proc.create_customer('A', 'B', id => 1); ROLLBACK;", 'OP002', "create_customer: $change") unless $change =~ /orders/;
}
refused("BEGIN; $_; $ask; ROLLBACK;", 'OP002', "fan_out: $_")
	for 'ALTER TABLE order_store.shards RENAME COLUMN server TO renamed', 'DROP TRIGGER cluster_changed ON order_store.shards', 'ALTER TABLE order_store.shards RENAME TO renamed', 'ALTER TABLE order_store.cluster RENAME TO renamed';

# --- the same calls here and in one database ----------------------------------------------------------------------

srand 20261;
sub pick { return $_[ int rand @_ ]; }
my @script = ('\set ON_ERROR_STOP off');
my $customers = 24;
push @script, sprintf "SELECT order_proc.create_customer('First %d', %s, %s, %d);", $_, pick('NULL', "'Last $_'"), pick('NULL', "'$_\@example.invalid'"), $_ for 1 .. $customers;
push @script, "SELECT order_proc.create_customer('Twice', 'Twice', NULL, 7);";
my $orders = 60;
my $ids = join ', ', map { ":o$_" } 1 .. $orders;
for my $n (1 .. $orders) {
	my $items = 1 + int rand 4;
	my @products = map { int rand 1000 } 1 .. $items;
	my $array = sub { my ($make, $type) = @_; return 'ARRAY[' . join(',', map { $make->() } 1 .. $items) . "]::$type\[]"; };
	my $key = $n % 3 ? 'NULL' : "'key $n'";
	my $call = sprintf 'SELECT order_proc.create_order_with_items(%d, %s, %s, %s, %s, %s, %s, %s) AS o%d', 1 + int rand $customers,
		pick('NULL', "'pending'", "'paid'", "'shipped'"), pick('NULL', 'NULL', '12.34'), $array->(sub { int rand 1000 }, 'bigint'),
		$array->(sub { 1 + int rand 9 }, 'int'), $array->(sub { int(rand 10000) / 100 }, 'numeric'), pick('NULL', "'note $n, größer'"), $key, $n;
	push @script, "$call \\gset";
	next if $n % 3;
	(my $again = $call) =~ s/ AS o$n$/ = :o$n AS "the same"/;
	push @script, "$again;";
	(my $other = $again) =~ s/ARRAY\[\d+/ARRAY[123456/;
	push @script, "$other;";
}
my $columns = 'customer_id, status, total_amount, notes, customer_name, customer_email';
my $items = q{(SELECT json_agg(json_build_array(i->'product_id', i->'quantity', i->'price')) FROM json_array_elements(items) AS i)};
for my $n (1 .. $orders) {
	push @script, "SELECT $columns FROM order_proc.get_order(:o$n);" if $n % 4 == 0;
	push @script, "SELECT $columns, $items FROM order_proc.get_order_with_items(:o$n);" if $n % 4 == 1;
	push @script, sprintf 'SELECT order_proc.update_order_status(:o%d, %s, %s);', $n, pick("'paid'", "'processing'", "'cancelled'", "'nonsense'", "'shipped'", 'NULL'), pick('NULL', 'NULL', "'pending'") if $n % 2;
	push @script, "SELECT order_proc.delete_order(:o$n);", "SELECT order_proc.delete_order(:o$n);", "SELECT order_proc.get_order(:o$n) IS NULL;" if $n % 11 == 0;
}
push @script, "SELECT $columns, $items FROM order_proc.get_orders(ARRAY[$ids]);";
push @script, "SELECT $columns, $items FROM order_proc.get_orders(ARRAY[:o3, :o50, 12345, :o3, :o2]::bigint[]);";
push @script, 'SELECT order_proc.get_orders(ARRAY[:o3, NULL]::bigint[]);', "SELECT order_proc.get_orders('{}');", 'SELECT order_proc.get_orders(NULL);';
push @script, "SELECT order_proc.refresh_order_totals(ARRAY[$ids]);", "SELECT order_proc.refresh_order_totals(ARRAY[:o1, :o1, 5]::bigint[]);", 'SELECT order_proc.refresh_order_totals(NULL);', "SELECT order_proc.refresh_order_totals('{}');";
for my $limit (0, 1, 7, 50, 1000, 'NULL', -1) {
	push @script, "SELECT $columns FROM order_proc.list_orders_paginated($limit, $_);" for 0, 1, 13, 59, 1000, 'NULL', -1;
	for my $filter ('', ', customer_id => 5', ", status => 'paid'", ", customer_id => 5, status => 'paid'", ", status => 'nonsense'", ', customer_id => 999') {
		push @script, "SELECT $columns FROM order_proc.list_orders_after($limit$filter);";
		push @script, "SELECT created_at AS at FROM order_proc.get_order(:o40) \\gset", "SELECT $columns FROM order_proc.list_orders_after($limit, :'at', :o40$filter);" if $limit eq '7';
	}
}
push @script, "SELECT order_proc.list_orders_after(5, now());", 'SELECT order_proc.list_orders_after(5, NULL, 5);';
push @script, "SELECT $columns FROM order_proc.list_orders();", 'SELECT * FROM order_proc.order_counts();';
push @script, 'SELECT order_proc.get_order(NULL);', 'SELECT order_proc.get_order(17);', 'SELECT order_proc.get_order_with_items(NULL);', 'SELECT order_proc.delete_order(NULL);', 'SELECT order_proc.get_order(-1);';
push @script, "SELECT order_proc.update_order_status(4099, 'paid');", "SELECT order_proc.update_order_status(NULL, 'paid');";
push @script, map { "SELECT order_proc.create_order_with_items($_) > 0;" } "NULL, 'paid', NULL, '{1}', '{1}', '{1}'", "5, 'nonsense', NULL, '{1}', '{1}', '{1}'", "999, NULL, NULL, '{1}', '{1}', '{1}'", "5, NULL, NULL, '{}', '{}', '{}'",
	"5, NULL, NULL, '{1,2}', '{1}', '{1}'", "5, NULL, NULL, '{1}', '{0}', '{1}'", "5, NULL, NULL, '{1}', '{1}', '{-1}'", "5, NULL, NULL, '{1}', '{NULL}', '{1}'", "5, NULL, NULL, NULL, '{1}', '{1}'",
	"5, NULL, 'NaN', '{1}', '{1}', '{1}'", "5, NULL, -1, '{1}', '{1}', '{1}'", "5, NULL, 1e11, '{1}', '{1}', '{1}'", "5, NULL, NULL, '{1}', '{1}', '{1e9}'", "5, NULL, NULL, '{1}', '{2147483647}', '{99999999}'",
	"5, NULL, NULL, '{1}', '{1}', '{1}', NULL, repeat('x', 256)", "5, NULL, NULL, '{1}', '{1}', '{1}', NULL, ''";
my $batch = 'SELECT chunk, first_row, last_row, inserted, rejected_row, sqlstate, message FROM order_proc.batch_create_order_items';
for my $mode ('abort', 'skip_row', 'skip_chunk') {
	my $rows = sub {
		my ($n, $bad) = @_;
		return sprintf 'ARRAY[%s]::bigint[], ARRAY[%s]::bigint[], ARRAY[%s]::int[], ARRAY[%s]::numeric[]', join(',', map { $bad && $_ % 7 == 3 ? pick('NULL', 4097, -8) : ':o' . (1 + $_ % 10) } 1 .. $n),
			join(',', map { $bad && $_ % 11 == 5 ? 'NULL' : $_ } 1 .. $n), join(',', map { $bad && $_ % 13 == 6 ? pick(0, -1, 'NULL') : 1 + $_ % 5 } 1 .. $n), join(',', map { $bad && $_ % 17 == 8 ? pick(-1, "'NaN'", 1e9, 'NULL') : $_ / 4 } 1 .. $n);
	};
	push @script, "$batch(@{[ $rows->(40, 0) ]}, $_, '$mode');", "$batch(@{[ $rows->(40, 1) ]}, $_, '$mode');" for 1, 7, 100000;
	push @script, "$batch('{}', '{}', '{}', '{}', 10, '$mode');", "$batch(NULL, '{}', '{}', '{}', 10, '$mode');", "$batch('{1}', '{}', '{}', '{}', 10, '$mode');", "$batch('{4097}', '{1}', '{1}', '{1}', 0, '$mode');";
}
push @script, "SELECT $columns, $items FROM order_proc.get_orders(ARRAY[$ids]);", "SELECT order_proc.refresh_order_totals(ARRAY[$ids]);";
my $last = 'SELECT lines, rejected, orders, items, known, customers FROM order_proc.last_import();';
for my $mode ('skip_row', 'skip_order', 'abort') {
	push @script, "SET order_proc.import_on_error = $mode;", 'SELECT order_proc.last_import() IS NULL;';
	push @script, "INSERT INTO order_proc.order_import SELECT '$mode ' || g % 20, (1 + g % 20)::text, g::text, CASE WHEN g % 29 = 7 THEN 'x' ELSE '1' END, '2.50', NULL, 'paid' FROM generate_series(1, 90) AS g;", $last;
	push @script, "INSERT INTO order_proc.order_import SELECT 'good $mode ' || g % 20, (1 + g % 20)::text, g::text, '1', '2.50', '2026-01-01', NULL FROM generate_series(1, 90) AS g;", $last;
}
push @script, 'RESET order_proc.import_on_error;', 'SELECT import_id, line_number, sqlstate, message, raw_line FROM order_store.import_rejects ORDER BY 1, 2;';
push @script, map { "SELECT * FROM order_proc.fan_out_aggregate(\$q\$SELECT $_->[0]\$q\$) AS t($_->[1]);" } [ 'count(*), sum(total_amount), avg(total_amount), min(customer_name) FROM order_store.orders', 'a bigint, b numeric, c numeric, d text' ],
	[ 'status, count(*), avg(total_amount), stddev(total_amount) FROM order_store.orders GROUP BY status ORDER BY status', 'a text, b bigint, c numeric, d numeric' ], [ 'customer_id, count(*) FROM order_store.orders GROUP BY customer_id HAVING count(*) > 2 ORDER BY 2 DESC, 1 LIMIT 7', 'a bigint, b bigint' ],
	[ 'count(DISTINCT status) FROM order_store.orders', 'a bigint' ], [ 'sum(i.quantity * i.price), max(o.created_at) IS NULL FROM order_store.orders AS o JOIN order_store.order_items AS i ON i.order_id = o.id', 'a numeric, b boolean' ], [ '1', 'a int' ];
push @script, "SELECT sum(n) FROM order_proc.fan_out('SELECT count(*) FROM order_store.order_items WHERE quantity > \$1::int', '{2}') AS t(n bigint);";
push @script, "SELECT count(*) > 0, bool_and(command_tag LIKE 'UPDATE %') FROM order_proc.fan_out_exec(\$q\$UPDATE order_store.customers SET email = 'all\@example.invalid' WHERE id < 10\$q\$);",
	"SELECT sum(n) FROM order_proc.fan_out('SELECT count(*) FROM order_store.customers WHERE email LIKE ''all%''') AS t(n bigint);";
push @script, map { "SELECT order_proc.fan_out_exec('$_');" } 'COMMIT', 'SET work_mem = 64', 'LISTEN x', 'SELECT 1; SELECT 2', '';
push @script, "SELECT order_proc.purge_idempotency_keys('0');", "SELECT order_proc.purge_idempotency_keys(NULL);", "SELECT order_proc.purge_idempotency_keys('0');";

sub masked {
	my ($errors) = @_;
	return join "\n", map { s/^psql:<stdin>:\d+: //r =~ s/\b\d{4,}\b/ID/gr } grep { !/^(?:psql:<stdin>:\d+: )?(?:LOCATION|CONTEXT|SQL function|shard \d|SCHEMA NAME|TABLE NAME|COLUMN NAME|CONSTRAINT NAME)/ } split /\n/, $errors;
}
{
	my $script = join "\n", @script;
	my $here = run($script, stop => 0);
	my $single = run($script, database => 'single', stop => 0);
	my @here = split /\n/, $here->{output};
	my @single = split /\n/, $single->{output};
	cmp_ok(scalar @single, '>', 500, 'the calls return many rows');
	is(scalar @here, scalar @single, 'the coordinator as many');
	my @differ = grep { ($here[$_] // '') ne ($single[$_] // '') } 0 .. $#single;
	is(join("\n", map { "$single[$_] -> $here[$_]" } splice @differ, 0, 5), '', 'and the same');
	my @here_errors = split /\n/, masked($here->{errors});
	my @single_errors = split /\n/, masked($single->{errors});
	cmp_ok(scalar(grep { /ERROR/ } @single_errors), '>', 30, 'the calls raise many errors');
	is_deeply(\@here_errors, \@single_errors, 'the coordinator the same ones');
}
gives('SELECT count(*) FROM order_store.orders', '0', 'no order is on the coordinator');
gives("SELECT count(*) FROM order_store.orders WHERE customer_id % 4 <> $_", '0', "those of shard $_ belong there", node => $shards[$_]) for 0 .. 3;

refused("INSERT INTO order_store.customers (id, first_name) VALUES (101, 'x')", 'OP402', 'a customer of another slot, on a shard', node => $shards[0]);
refused("INSERT INTO order_store.customers (id, first_name) VALUES (101, 'x')", 'OP402', 'a customer on the coordinator');
refused("SELECT order_proc.create_order_with_items(5, NULL, NULL, '{1}', '{1}', '{1}')", 'OP402', 'an order of another slot, on a shard', node => $shards[0]);
refused("UPDATE order_store.customers SET id = 2 WHERE id = 4", 'OP402', 'a customer cannot be moved by hand', node => $shards[0]);
gives('SELECT count(*), count(DISTINCT path) FROM order_proc.explain_fast_path()', join('|', split(/\|/, run('SELECT count(*), count(DISTINCT path) FROM order_proc.explain_fast_path()', database => 'single')->{output})), 'a shard takes the fast path as one database does', node => $shards[1]);

# --- transactions ---------------------------------------------------------------------------------------------------------

my $count = 'SELECT (SELECT sum(n) FROM order_proc.fan_out($$SELECT count(*) FROM order_store.orders$$) AS t(n bigint))';
my $orders_now = run($count)->{output};
sub orders_are { my ($more, $name) = @_; $orders_now += $more; gives($count, $orders_now, $name); }
sub create { return "SELECT order_proc.create_order_with_items($_[0], NULL, NULL, '{1}', '{1}', '{1}') > 0;"; }

run('BEGIN; ' . join(' ', map { create($_) } 1 .. 8) . ' COMMIT;');
orders_are(8, 'a transaction over four shards commits');
run('BEGIN; ' . join(' ', map { create($_) } 1 .. 8) . ' ROLLBACK;');
orders_are(0, 'and rolls back');
refused('BEGIN; ' . join(' ', map { create($_) } 1 .. 4) . ' SELECT 1/0; COMMIT;', '22012', 'an error here');
orders_are(0, 'rolls all back');
refused('BEGIN; ' . join(' ', map { create($_) } 1, 2, 999) . ' COMMIT;', '23503', 'an error there');
orders_are(0, 'rolls all back, too');
run('BEGIN; CREATE TEMPORARY TABLE here AS SELECT 1 AS x; ' . create(1) . ' COMMIT;');
orders_are(1, 'one shard and a write here');
# Whatever a shard would take for a session of its own.
{
	$shards[0]->safe_psql('postgres', <<'SQL');
CREATE TABLE public.levels (n serial, level text);
CREATE FUNCTION public.note_level() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO public.levels (level) VALUES (concat_ws(' ', current_setting('transaction_isolation'), current_setting('transaction_read_only'))); RETURN NEW; END $$;
CREATE TRIGGER note_level BEFORE INSERT ON order_store.orders FOR EACH ROW EXECUTE FUNCTION public.note_level();
ALTER DATABASE postgres SET default_transaction_isolation = 'serializable';
ALTER DATABASE postgres SET default_transaction_read_only = on;
SQL
	my $one = create(4);
	my $fails = $one =~ s/4/9992/r;
	my $at = sub { return "BEGIN ISOLATION LEVEL $_[0]; $one COMMIT; "; };
	run($one . $one . $at->('REPEATABLE READ') . $one . $at->('SERIALIZABLE') . $one . $fails . $one . "BEGIN; $fails ROLLBACK; $one BEGIN; SAVEPOINT a; $fails ROLLBACK TO a; $one COMMIT; $one SET timezone = 'Asia/Kolkata'; $one", stop => 0);
	gives("SELECT string_agg(level, ', ' ORDER BY n) FROM public.levels", join(', ', map { "$_ off" } ('read committed') x 2, 'repeatable read', 'read committed', 'serializable', ('read committed') x 6), 'the levels are those of the transactions here', node => $shards[0]);
	$shards[0]->safe_psql('postgres', 'SET default_transaction_read_only = off; ALTER DATABASE postgres RESET ALL');
	$shards[0]->safe_psql('postgres', 'DROP FUNCTION public.note_level CASCADE; DROP TABLE public.levels');
	$orders_now = run($count)->{output};
}
gives('BEGIN; ' . create(1) . ' SAVEPOINT a; ' . create(2) . create(1) . " SAVEPOINT b; " . create(3) . ' RELEASE b; ROLLBACK TO a; ' . create(4) . ' SAVEPOINT c; ' . create(2) . ' RELEASE c; COMMIT;',
	join("\n", ('t') x 6), 'savepoints');
orders_are(3, 'roll back what was after them');
run('BEGIN; ' . create(1) . ' SAVEPOINT a; ' . create(2) . create(999) . ' ROLLBACK TO a; ' . create(3) . ' COMMIT;', stop => 0);
orders_are(2, 'also after an error');
run('BEGIN; SAVEPOINT a; ' . create(2) . 'ROLLBACK TO a; ' . create(2) . 'ROLLBACK TO a; ' . create(2) . ' SAVEPOINT a; SAVEPOINT b; ' . create(2) . 'RELEASE b; ROLLBACK TO a; RELEASE a;' . create(2) . 'COMMIT;');
orders_are(2, 'again and again');
run(<<'SQL');
DO $$
BEGIN
  FOR i IN 1..40 LOOP
    BEGIN
      PERFORM order_proc.create_order_with_items(i, NULL, NULL, '{1}', '{1}', '{1}');
      IF i % 2 = 0 THEN RAISE EXCEPTION 'no'; END IF;
    EXCEPTION WHEN raise_exception OR foreign_key_violation THEN NULL;
    END;
  END LOOP;
END
$$
SQL
orders_are(12, 'EXCEPTION blocks undo their part on the shards');
refused('BEGIN; ' . create(1) . " PREPARE TRANSACTION 'x';", '0A000', 'PREPARE TRANSACTION of what used shards');
orders_are(0, 'leaves nothing');

# A constraint that is looked at when the transaction commits.
$shards[2]->safe_psql('postgres', <<'SQL');
CREATE FUNCTION public.never() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'never' USING ERRCODE = '23514'; END $$;
CREATE CONSTRAINT TRIGGER never AFTER INSERT ON order_store.orders DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.notes = 'never') EXECUTE FUNCTION public.never();
SQL
my $never = "SELECT order_proc.create_order_with_items(2, NULL, NULL, '{1}', '{1}', '{1}', 'never') > 0;";
refused("BEGIN; $never COMMIT;", '23514', 'a deferred constraint fails at the COMMIT of one shard');
refused('BEGIN; ' . create(1) . $never . create(3) . ' COMMIT;', '23514', 'and of several');
orders_are(0, 'all is rolled back');

# One snapshot a shard.
gives(<<"SQL", "t\nt\nt", 'REPEATABLE READ sees one snapshot of a shard');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT ($count) AS seen \\gset
\\! psql -XAtq -d '@{[ $coordinator->connstr('postgres') ]}' -c "@{[ create(1) ]}"
SELECT ($count) = :seen;
COMMIT;
SELECT ($count) = :seen + 1;
SQL
$orders_now++;

# Prepared by hand under identifiers of this coordinator.
my $cluster = $coordinator->safe_psql('postgres', "SELECT lpad(to_hex(coordinator_id), 16, '0') FROM order_store.cluster");
for my $fate ([ 'aaaaaaaaaaaaaaaa', 0, 'rolled back' ], [ 'bbbbbbbbbbbbbbbb', 1, 'committed' ]) {
	my ($nonce, $decided, $action) = @$fate;
	my $base = "opc1_${cluster}_0000000000000003_$nonce";
	for my $shard (1, 2) {
		$shards[$shard]->safe_psql('postgres', "BEGIN; INSERT INTO order_store.customers (id, first_name) VALUES (@{[ 1000 + 4 * $decided + $shard ]}, 'by hand'); PREPARE TRANSACTION '${base}_000$shard'");
	}
	$coordinator->safe_psql('postgres', "INSERT INTO order_store.commit_log (gid, shard_ids) VALUES ('$base', '{1,2}')") if $decided;
	gives('SELECT count(*), sum(in_doubt) FROM order_proc.shard_status', '4|2', 'two transactions are in doubt');
	gives('SELECT shard_id, action FROM order_proc.recover() ORDER BY 1', "1|$action\n2|$action", "recover: $action");
}
gives("SELECT count(*) FROM order_store.customers WHERE first_name = 'by hand'", 1, 'as the coordinator decided', node => $shards[$_]) for 1, 2;

# --- cancel, timeouts, broken connections ------------------------------------------------------------------------------------

my $sleep = "SELECT * FROM order_proc.fan_out('SELECT pg_sleep(60)::text') AS t(x text)";
# When the last of the shards ended what it did, as its log says.
sub shards_ended {
	my $last = 0;
	for my $shard (@shards) {
		$shard->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND state = 'active' AND pid <> pg_backend_pid())") or return 1e10;
		my @ends = slurp_file($shard->logfile) =~ /^([\d.]+) \[\d+\] \S+ (?:ERROR:  canceling|FATAL:  connection to client lost|LOG:  could not receive)/mg;
		$last = $ends[-1] if @ends && $ends[-1] > $last;
	}
	return $last;
}
for my $how ('cancel', 'statement_timeout') {
	my ($errors, $input, $from) = ('', '', 1 + time);
	local $ENV{PGAPPNAME} = 'sleeper';
	my $run = IPC::Run::start([ 'psql', '-XAtq', '-v', 'VERBOSITY=sqlstate', '-d', $coordinator->connstr('postgres'), ($how eq 'cancel' ? () : ('-c', 'SET statement_timeout = 1000')), '-c', $sleep ], '<', \$input, '>', '/dev/null', '2>', \$errors);
	if ($how eq 'cancel') {
		$shards[3]->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND state = 'active' AND application_name = 'order_proc')");
		$from = $coordinator->safe_psql('postgres', "SELECT extract(epoch FROM clock_timestamp()), pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'sleeper' AND pid <> pg_backend_pid()") =~ s/\|.*//r;
	}
	IPC::Run::finish($run);
	my ($it) = $errors =~ /ERROR:\s+(\S+)/;
	my $took = shards_ended() - $from;
	is($it, '57014', "$how of a fan-out");
	# How soon is measured in bench/run; here, that it does not go on for the minute that it would take.
	cmp_ok($took, '<=', 20, sprintf '  ends it on the shards, after %.0f ms', 1000 * $took);
}

sub shell_psql { my ($node, $sql) = @_; return sprintf q{\! psql -XAtq -d '%s' -c "%s" >/dev/null}, $node->connstr('postgres'), $sql; }
# Reads over all shards, when all idle connections are broken.
{
	my @reads = ("SELECT count(*) = $orders_now FROM order_proc.list_orders()", "SELECT sum(orders) = $orders_now FROM order_proc.order_counts()", "SELECT count(*) FROM order_proc.get_orders('{5}')", "SELECT * FROM order_proc.fan_out_aggregate('SELECT count(*) FROM order_store.orders') AS t(n bigint)");
	my $hang_up = join "\n", '', (map { shell_psql($_, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'order_proc'") } @shards), '';
	gives("$count;" . join('', map { "$hang_up$_;" } @reads), "$orders_now\nt\nt\n0\n$orders_now", 'reads over all shards replace broken connections');
}

# A session on a shard that ends under a command, which had committed nothing.
my $once = q{DO $d$BEGIN IF nextval('public.runs') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(5); END IF; END$d$};
gives("SELECT count(*) FROM order_proc.fan_out_exec('CREATE SEQUENCE public.runs'); SELECT DISTINCT command_tag FROM order_proc.fan_out_exec(\$q\$$once\$q\$); SELECT DISTINCT n FROM order_proc.fan_out('SELECT last_value FROM public.runs') AS t(n bigint)",
	"4\nDO\n2", 'a command goes once more when its session was lost at the first use');
gives("SELECT count(*) FROM order_proc.fan_out_exec('ALTER SEQUENCE public.runs RESTART'); BEGIN; " . create(1) . " SELECT command_tag FROM order_proc.fan_out_exec(\$q\$$once\$q\$); COMMIT; SELECT count(*) FROM order_proc.fan_out_exec('DROP SEQUENCE public.runs')",
	"4\nt\n4", 'but not when the transaction had something there', stop => 0);
orders_are(0, 'which is rolled back');

# Texts that come again are prepared on the shards: as many as are used, and anew when their columns have changed.
{
	my $rows = sub { my ($columns) = @_; return "SELECT DISTINCT t::text FROM order_proc.fan_out('SELECT * FROM public.shape') AS t($columns);"; };
	my $all = sub { my ($command) = @_; return "SELECT count(*) FROM order_proc.fan_out_exec(\$q\$$command\$q\$);"; };
	gives(join("\n", $all->('CREATE TABLE public.shape AS SELECT 1 AS a'), ($rows->('a int')) x 3,
		$all->(q{ALTER TABLE public.shape ADD b text DEFAULT 'x'}), ($rows->('a int, b text')) x 2,
		'BEGIN;', $rows->('a int, b text'), $all->('ALTER TABLE public.shape DROP a'), $rows->('b text'), 'COMMIT;', $rows->('b text'), $all->('DROP TABLE public.shape')),
		join("\n", 4, ('(1)') x 3, 4, ('(1,x)') x 3, 4, ('(x)') x 2, 4), 'a query whose columns change between its calls');
	gives('DO $$ DECLARE s bigint; BEGIN FOR i IN 1 .. 300 LOOP FOR again IN 1 .. 3 LOOP SELECT sum(n) INTO s FROM order_proc.fan_out(\'SELECT \' || i) AS t(n int); ASSERT s = 4 * i, i; END LOOP; END LOOP; END $$; '
		. q{SELECT bool_and(n BETWEEN 20 AND 60) FROM order_proc.fan_out('SELECT count(*) FROM pg_catalog.pg_prepared_statements') AS t(n bigint)},
		't', 'hundreds of queries, three times each');
	gives(q{SELECT DISTINCT x FROM order_proc.fan_out($$SELECT pg_catalog.set_config('search_path', 'nowhere', false)$$) AS t(x text); SELECT DISTINCT x FROM order_proc.fan_out('SHOW search_path') AS t(x text)},
		"nowhere\npg_catalog, pg_temp", 'what a query sets is undone');
}

# Rows are streamed, also by the first query of a session, which comes with its settings.
for my $query (q{SELECT repeat('x', 100) FROM generate_series(1, 200000)}, q{SELECT repeat('x', 100) FROM generate_series(1, 200000) WHERE random() >= 0}) {
	my $peak = q{SELECT substring(pg_read_file('/proc/self/status') FROM 'VmHWM:\s+(\d+)')::int AS peak};
	gives("$peak \\gset before_\nSELECT count(*) FROM order_proc.fan_out(\$q\$$query\$q\$) AS t(x text);\n$peak \\gset after_\nSELECT :after_peak - :before_peak < 40000", "800000\nt", "bounded memory: $query");
}

# A query runs in a read-only transaction unless it is plain that it writes and sets nothing.
{
	my $all = sub { my ($command) = @_; return "SELECT count(*) FROM order_proc.fan_out_exec(\$q\$$command\$q\$);"; };
	run(join "\n", map { $all->($_) } 'CREATE SEQUENCE public.written', q{CREATE FUNCTION public.writes(text) RETURNS int STABLE LANGUAGE plpgsql AS $f$BEGIN PERFORM nextval('public.written'); RETURN 1; END$f$},
		'CREATE OPERATOR public.# (RIGHTARG = text, FUNCTION = public.writes)', "CREATE VIEW public.pg_class AS SELECT public.writes('') AS n", 'CREATE VIEW order_store.writing AS TABLE public.pg_class', 'CREATE DOMAIN public.filled AS text CHECK (public.writes(VALUE) = 1)');
	refused("SELECT n FROM order_proc.fan_out(\$q\$$_\$q\$) AS t(n int)", '25006', "it writes nothing: $_")
		for "SELECT public.writes('')", "SELECT OPERATOR(public.#) ''", 'SELECT n FROM public.pg_class', 'SELECT n FROM order_store.writing', q{SELECT length(''::public.filled)}, 'SELECT 1 WHERE 1 = (SELECT n FROM public.pg_class)',
		"SELECT 1 ORDER BY public.writes('')", "VALUES (public.writes(''))", "SELECT 1 LIMIT public.writes('')", "SELECT (count(*) FILTER (WHERE public.writes('') = 1))::int", "SELECT n FROM generate_series(1, public.writes('')) AS n", "SELECT nextval('public.written')::int",
		q{SELECT length(query_to_xml($$SELECT public.writes('')$$, true, true, '')::text)}, "SELECT 1 UNION ALL SELECT CASE WHEN true THEN public.writes('') END", 'WITH w AS (SELECT n FROM order_store.writing) SELECT n FROM w', 'WITH pg_class AS (DELETE FROM order_store.orders RETURNING 1) SELECT 1 FROM pg_class', q{SELECT length(n) FROM XMLTABLE('/a' PASSING xml '<a/>' COLUMNS n public.filled PATH '.') AS x}, 'SELECT 1 FROM order_store.orders FOR UPDATE';
	my $read_only = q{current_setting('transaction_read_only')};
	gives("SELECT string_agg(DISTINCT v, '') FROM order_proc.fan_out(\$q\$$_->[1]\$q\$) AS t(v text)", $_->[0], "transaction_read_only is $_->[0]: $_->[1]")
		for [ 'off', "SELECT $read_only" ], [ 'off', "SELECT max($read_only) FROM order_store.orders AS o JOIN order_store.order_items AS i ON i.order_id = o.id WHERE lower(o.status) = 'pending'" ], [ 'off', "SELECT pg_catalog.max($read_only)::text FROM pg_class" ],
		[ 'on', "SELECT $read_only WHERE random() >= 0" ], [ 'on', "WITH w AS (SELECT $read_only AS v) SELECT v FROM w" ];
	run(join "\n", map { $all->($_) } 'DROP VIEW order_store.writing, public.pg_class', 'DROP DOMAIN public.filled', 'DROP OPERATOR public.# (NONE, text)', 'DROP FUNCTION public.writes', 'DROP SEQUENCE public.written');
}

my $cut = join "\n", '', (map { shell_psql($_, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'order_proc'") } @shards), '';
gives("$count;$cut$count;$cut" . create(1) . $cut . create(2), "$orders_now\n$orders_now\nt\nt", 'broken connections are replaced between transactions');
orders_are(2, 'and nothing is lost');
refused('BEGIN; ' . create(1) . $cut . create(1) . ' COMMIT;', '08006', 'but not within one');
refused('BEGIN; ' . create(1) . create(2) . $cut . ' COMMIT;', '08006', 'nor at its COMMIT');
gives('BEGIN; ' . create(1) . " SAVEPOINT a; $cut" . create(1) . " ROLLBACK TO a; " . create(2) . " COMMIT;\n$count", "t\nt\n$orders_now", 'nor after ROLLBACK TO a savepoint', stop => 0);
orders_are(0, 'all of it is rolled back');

$shards[3]->stop('immediate');
refused(create(3), '08001', 'a shard that is down');
refused("$count", '08001', 'fan_out then');
gives(create(2), 't', 'the others work');
{
	my $it = run("SELECT x FROM order_proc.fan_out('SELECT order_proc.shard_id()', NULL, 'warn') AS t(x int) ORDER BY x");
	is($it->{output}, "0\n1\n2", 'on_failure warn gives the rows of the others');
	like($it->{errors}, qr/WARNING:\s+08001:.*shard 3/, 'and warns');
}
gives('SELECT id, reachable FROM order_proc.shard_status ORDER BY id', "0|t\n1|t\n2|t\n3|f", 'shard_status tells it');
refused('BEGIN; ' . create(1) . create(3) . ' COMMIT;', '08001', 'a transaction that wants it');
$shards[3]->start;
orders_are(1, 'is rolled back');

# Connections are kept: when all shards answer with an error, and when something else is altered. One that is altered is not.
{
	my $sessions = q{order_proc.fan_out('SELECT order_proc.shard_id(), pg_backend_pid()') AS t(shard int, pid int)};
	my $kept = sub { return run("SELECT array_agg(pid) AS pids FROM $sessions \\gset\n$_[0];\nSELECT string_agg(shard::text, ',' ORDER BY shard) FROM $sessions WHERE pid = ANY (:'pids')", stop => 0)->{output}; };
	my $kept_after = sub { my ($statements, $wanted, $name) = @_; is($kept->($statements), $wanted, $name); };
	# Errors are waited for, but not for long.
	for my $failing ("SELECT * FROM order_proc.fan_out('SELECT 1/0') AS t(x int)", "DO 'BEGIN PERFORM FROM order_proc.fan_out(''SELECT 1/0'') AS t(x int); EXCEPTION WHEN division_by_zero THEN NULL; END'") {
		my ($all) = grep { $kept->($failing) eq '0,1,2,3' } 1 .. 10;
		ok($all, 'an error of all shards costs no connection');
	}
	# Deferred constraints: of one shard, of all; and a COMMIT that is cancelled while they take long.
	$coordinator->safe_psql('postgres', "SELECT count(*) FROM order_proc.fan_out_exec(\$q\$$_\$q\$)") for 'CREATE TABLE public.late (n int)',
		q{CREATE FUNCTION public.late() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF NEW.n = 2 THEN PERFORM pg_catalog.pg_sleep(60); ELSIF NEW.n = 1 OR order_proc.shard_id() = 1 THEN RAISE EXCEPTION USING ERRCODE = ''P4321''; END IF; RETURN NULL; END'},
		'CREATE CONSTRAINT TRIGGER late AFTER INSERT ON public.late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.late()';
	for my $decides ('off', 'on') {
		my $late = sub { return "SET order_proc.shards_decide = $decides; SELECT FROM order_proc.fan_out_exec('INSERT INTO public.late VALUES ($_[0])')"; };
		refused($late->($_), 'P4321', "shards_decide $decides, what is deferred fails on " . ($_ ? 'all shards' : 'a shard')) for 0, 1;
		for my $n (0, 1) {
			my ($all) = grep { $kept->($late->($n)) eq '0,1,2,3' } 1 .. 10;
			ok($all, '  which costs no connection');
		}
		my $cancel = sprintf q{\! (until [ "$(psql -XAtq -d '%1$s' -c "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'order_proc' AND wait_event = 'PgSleep'")" = 1 ]; do sleep 0.1; done; psql -XAtq -d '%2$s' -c "SELECT pg_cancel_backend($PID)") >/dev/null 2>&1 &},
			$shards[2]->connstr('postgres'), $coordinator->connstr('postgres');
		my ($all) = grep { $kept->("SET order_proc.commit_timeout = '60s';\nSELECT pg_backend_pid() AS pid \\gset\n\\setenv PID :pid\n$cancel\n" . $late->(2)) eq '0,1,2,3' } 1 .. 10;
		ok($all, '  nor does the cancel of one that takes long');
	}
	is($_->safe_psql('postgres', 'SELECT (SELECT count(*) FROM public.late), (SELECT count(*) FROM pg_prepared_xacts)'), '0|0', 'nothing of it is there') for @shards;
	$kept_after->('CREATE SERVER other FOREIGN DATA WRAPPER postgres_fdw; CREATE USER MAPPING FOR CURRENT_USER SERVER other; DROP SERVER other CASCADE', '0,1,2,3', 'another server changes no connection');
	$kept_after->("ALTER SERVER s1 OPTIONS (ADD keepalives '1')", '0,2,3', 'an altered server is connected to anew');
	$kept_after->("ALTER SERVER s1 OPTIONS (DROP keepalives); ALTER USER MAPPING FOR CURRENT_USER SERVER s2 OPTIONS (ADD user 'postgres')", '0,3', 'and by an altered mapping');
	$kept_after->('DROP USER MAPPING FOR CURRENT_USER SERVER s2; CREATE USER MAPPING FOR PUBLIC SERVER s2', '0,1,3', 'and by that of PUBLIC');
	$kept_after->('CREATE USER MAPPING FOR CURRENT_USER SERVER s2', '0,1,3', 'and by a new one, which comes before it');
	$kept_after->('DROP USER MAPPING FOR PUBLIC SERVER s2', '0,1,3', 'that of PUBLIC being dropped');
}

my $postmaster = (split /\n/, slurp_file($shards[2]->data_dir . '/postmaster.pid'))[0];
kill 'STOP', $postmaster;
my $began = time;
refused('SET order_proc.connect_timeout = 500; ' . create(2), '08001', 'a shard that hangs');
cmp_ok(time - $began, '<', 20, 'holds nobody longer than connect_timeout');
kill 'CONT', $postmaster;

# A shard that hangs while it prepares, and a COMMIT that is cancelled. The first to prepare is the one that was used last.
{
	my $pids = $shards[2]->data_dir . '/sessions';
	my $list = sprintf(q{\! psql -XAtq -d '%s' -c "SELECT pid FROM pg_stat_activity WHERE application_name = 'order_proc'" >'%s'}, $shards[2]->connstr('postgres'), $pids);
	my $it = run(join("\n", '\set ON_ERROR_STOP 0', "SET order_proc.commit_timeout = '60s';", 'SELECT pg_backend_pid() AS pid \gset', '\setenv PID :pid', 'BEGIN;', create(2), create(1), $list, "\\! xargs kill -STOP <'$pids'",
		sprintf(q{\! (sleep 0.4; psql -XAtq -d '%s' -c "SELECT pg_cancel_backend($PID)") >/dev/null 2>&1 &}, $coordinator->connstr('postgres')),
		'SELECT clock_timestamp() AS began \gset', 'COMMIT;', q{SELECT clock_timestamp() - :'began' < '20 s' AS soon, clock_timestamp() - :'began';}, "\\! xargs kill -CONT <'$pids'"), stop => 0);
	is($it->{state}, '57014', 'a COMMIT that is cancelled while a shard hangs');
	like($it->{output}, qr/^t\|/m, '  is answered soon') or diag $it->{output};
	ok($shards[2]->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'order_proc'"), '  and the shard sees that nobody is there');
	$coordinator->safe_psql('postgres', 'SELECT count(*) FROM order_proc.recover()');
	is($_->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts'), '0', '  and nothing stays prepared') for @shards;
	orders_are(0, '  nor committed');
}

# Shards that hang hold shard_status and fan_out up for connect_timeout once, not each in turn.
{
	my @stopped = map { (split /\n/, slurp_file($_->data_dir . '/postmaster.pid'))[0] } @shards[ 1, 2 ];
	kill 'STOP', @stopped;
	my $start = time;
	gives('SET order_proc.connect_timeout = 5000; SELECT id, reachable FROM order_proc.shard_status ORDER BY id', "0|t\n1|f\n2|f\n3|t", 'two shards that hang, in shard_status');
	my $it = run("SET order_proc.connect_timeout = 5000; SELECT x FROM order_proc.fan_out('SELECT order_proc.shard_id()', NULL, 'warn') AS t(x int) ORDER BY x");
	is($it->{output}, "0\n3", 'fan_out with warn gives the rows of the others');
	cmp_ok(time - $start, '<', 19, 'each took one connect_timeout, not two');
	kill 'CONT', @stopped;
}

# The map of the coordinator is behind the shards: the call goes on once they agree.
{
	my ($slot, $place) = (2, 2);    # customer 2, by modulo
	my $owned = sub { my ($bit) = @_; return "UPDATE order_store.cluster SET owned_slots = set_byte(owned_slots, 0, " . ($bit ? "get_byte(owned_slots, 0) | 4" : "get_byte(owned_slots, 0) & ~4") . ")"; };
	$shards[3]->safe_psql('postgres', "SET session_replication_role = replica; INSERT INTO order_store.customers (id, first_name) VALUES (2, 'moved')");
	my $many = sub { return sprintf q{SELECT array_agg(order_proc.slot_for_order(id) ORDER BY n) FROM unnest(order_proc.create_orders('[%s]')) WITH ORDINALITY AS u (id, n);}, join ',', map { qq({"customer_id": $_, "product_ids": [1], "quantities": [1], "prices": [1]}) } @_; };
	# All of its transaction: the shards prepare with the call.
	my $alone = sub { return $many->(@_) =~ s/^.*?(?=order_proc\.create_orders)/SELECT /r =~ s/\) WITH ORDINALITY.*;$/;/r; };
	for my $sql ($many->(2, 4, 7, 2, 4, 2), $alone->(2, 4, 7, 2, 4, 2), $alone->(4, 2), 'BEGIN; ' . create(6) =~ s/6/7/r . ' SAVEPOINT a; ' . $many->(4, 2, 7) . ' COMMIT;',
		create(2), 'BEGIN; ' . create(4) . create(2) . 'COMMIT;', "DO \$\$ BEGIN PERFORM order_proc.create_order_with_items(@{[ 4 ]}, NULL, NULL, '{1}', '{1}', '{1}'); BEGIN PERFORM order_proc.create_order_with_items(2, NULL, NULL, '{1}', '{1}', '{1}'); EXCEPTION WHEN division_by_zero THEN NULL; END; END \$\$",
		'BEGIN; ' . create(6) =~ s/6/7/r . ' SAVEPOINT a; ' . create(2) . ' COMMIT;') {
		my $to = 5 - $place;
		$shards[$place]->safe_psql('postgres', $owned->(0));
		my $it = { input => '', output => '', errors => '' };
		$it->{run} = IPC::Run::start([ 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $coordinator->connstr('postgres'), '-c', $sql ], '<', \$it->{input}, '>', \$it->{output}, '2>', \$it->{errors});
		sleep 0.7;
		$shards[$to]->safe_psql('postgres', $owned->(1));
		$coordinator->safe_psql('postgres', "UPDATE order_store.slot_map SET shard_id = $to WHERE slot = $slot");
		IPC::Run::finish($it->{run});
		is($it->{errors}, '', "a call finds the slot that has moved: $sql");
		$it->{output} = run("SELECT array_agg(order_proc.slot_for_order(id) ORDER BY n) FROM unnest('$it->{output}'::bigint[]) WITH ORDINALITY AS u (id, n)")->{output} if $sql =~ /^SELECT order_proc.create_orders/;
		is($it->{output} =~ s/^t$//gmr =~ s/\n//gr, join(',', $sql =~ /"customer_id": (\d+)/g) =~ s/^(.+)$/{$1}/r, '  and gives the ids in input order') if $sql =~ /create_orders/;
		$place = $to;
	}
	is($place, 2, 'it is back');
	# What the transaction did on that shard before cannot be undone by itself.
	my $cut_off = shell_psql($shards[2], 'CHANGE') =~ s/CHANGE/$owned->(0)/er;
	# One that waits does so each time, for 5 s.
	my $at_once = sub {
		my ($sql, $state, $name) = @_;
		my ($quickest) = sort { $a <=> $b } map { my $start = time; refused($sql, $state, $name); time - $start } 1 .. 2;
		cmp_ok($quickest, '<', 5, '  which it tells at once');
	};
	$at_once->('BEGIN; ' . create(6) . "\n$cut_off\n" . create(2) . ' COMMIT;', 'OP402', 'not when the transaction was there before');
	$at_once->('BEGIN; ' . create(6) . "\n$cut_off\n" . $many->(4, 2) . ' COMMIT;', 'OP402', 'of many orders neither');
	$at_once->($many->(2, 4) =~ s/4(.*?)\[1\]/4$1\[\]/r, '22023', 'another fault is not waited for');
	my $start = time;
	refused(create(2), 'OP402', 'nor for ever');
	cmp_ok(time - $start, '>', 4.5, 'but for 5 s');
	$shards[2]->safe_psql('postgres', $owned->(1));
	$shards[3]->safe_psql('postgres', "SET session_replication_role = replica; DELETE FROM order_store.order_items WHERE order_id & 4095 = $slot; DELETE FROM order_store.orders WHERE customer_id = 2; DELETE FROM order_store.customers WHERE id = 2");
	$orders_now = run($count)->{output};
}

# A long run of ids in use.
{
	my $next = 1 + $coordinator->safe_psql('postgres', "SELECT nextval('order_store.customers_id_seq')");
	my $run = 200_000;
	$shards[$_]->safe_psql('postgres', "SET session_replication_role = replica; INSERT INTO order_store.customers (id, first_name) SELECT c, 'run' FROM generate_series($next, @{[ $next + $run - 1 ]}) AS c WHERE c % 4 = $_ ON CONFLICT DO NOTHING") for 0 .. 3;
	my $start = time;
	gives("SELECT order_proc.create_customer('behind', 'the run')", $next + $run, 'create_customer jumps over a run of ids in use');
	cmp_ok(time - $start, '<', 15, 'in a moment');
	gives("SELECT order_proc.create_customer('and', 'on')", $next + $run + 1, 'and goes on from there');
	refused('SELECT order_proc.customer_ids_in_use(1, 0)', '22023', 'ids in use: no count');
	gives("SELECT order_proc.customer_ids_in_use(9223372036854775800, 65536) = decode(repeat('00', 8192), 'hex')", 't', 'ids in use: beyond the last');
	$_->safe_psql('postgres', "SET session_replication_role = replica; DELETE FROM order_store.customers WHERE first_name = 'run'") for @shards;
}

gives("SET order_proc.idle_timeout = '200ms'; $count;\n\\! for try in \$(seq 300); do n=\$(psql -XAtq -d '@{[ $shards[0]->connstr('postgres') ]}' -c \"SELECT count(*) FROM pg_stat_activity WHERE application_name = 'order_proc'\"); [ \$n = 0 ] && break; sleep 0.1; done; echo \$n\n$count", "$orders_now\n0\n$orders_now", 'idle connections are closed while the session waits');

$coordinator->append_conf('postgresql.conf', "shared_preload_libraries = 'order_proc'\norder_proc.max_connections_per_shard = 2");
$coordinator->restart;
{
	my $input = '';
	my @runs = map { IPC::Run::start([ 'psql', '-XAtq', '-d', $coordinator->connstr('postgres'), '-c', $count, '-c', 'SELECT pg_sleep(60)' ], '<', \$input, '>', '/dev/null', '2>', '/dev/null') } 1, 2;
	$shards[0]->poll_query_until('postgres', "SELECT count(*) = 2 FROM pg_stat_activity WHERE application_name = 'order_proc'");
	$coordinator->poll_query_until('postgres', "SELECT count(*) = 2 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'");
	refused("SET order_proc.connect_timeout = 300; $count", '53300', 'max_connections_per_shard over all sessions');
	$coordinator->safe_psql('postgres', "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'");
	IPC::Run::finish($_) for @runs;
	gives($count, $orders_now, 'there is room again when they have ended');
}

# --- rights and passwords ------------------------------------------------------------------------------------------------------

$_->safe_psql('postgres', "SELECT order_proc.grant_store('clerk', 'write'), order_proc.grant_store('guest', 'write')") for $coordinator, @shards;
$coordinator->safe_psql('postgres', 'REVOKE USAGE ON FOREIGN SERVER s0 FROM guest');
my $clerk = 'SET SESSION AUTHORIZATION clerk; ';
sub mapping { my ($options) = @_; $coordinator->safe_psql('postgres', 'SET log_statement = none; ' . join ' ', map { "DROP USER MAPPING IF EXISTS FOR clerk SERVER s$_; CREATE USER MAPPING FOR clerk SERVER s$_ OPTIONS ($options);" } 0 .. 3); }
mapping("user 'clerk', password '$canary'");
refused($clerk . create(1), '42501', 'no USAGE on the server');
$coordinator->safe_psql('postgres', "GRANT USAGE ON FOREIGN SERVER s$_ TO clerk") for 0 .. 3;
mapping("user 'guest'");
like(refused($clerk . create(1), '2F003', 'a mapping without a password'), qr/HINT:  ALTER USER MAPPING FOR clerk SERVER s1 OPTIONS \(ADD password/, '  which is to be added');
mapping("user 'guest', password '$canary'");
like(refused($clerk . create(1), '2F003', 'a password that the shard did not ask for'), qr/HINT:[^\n]*pg_hba\.conf/, '  which its pg_hba.conf is to do');
mapping("user 'clerk', password '$canary wrong'");
my $messages = refused($clerk . create(1), '08001', 'a wrong password');
unlike($messages, qr/authentication/, 'only the owner of the server reads why');
mapping("user 'clerk', password '$canary'");
gives($clerk . create(1) . 'BEGIN; ' . create(2) . create(3) . 'COMMIT; SELECT count(*) = ' . ($orders_now + 3) . ' FROM order_proc.list_orders()', "t\nt\nt\nt", 'the calls of a role with write rights');
orders_are(3, 'are there');
refused("$clerk $_", '42501', "not for everybody: $_") for "SELECT * FROM order_proc.fan_out('SELECT 1') AS t(x int)", "SELECT order_proc.fan_out_exec('DELETE FROM order_store.orders')", "SELECT order_proc.add_shard('s0')", 'SELECT order_proc.recover()', "SELECT order_proc.set_membership(1, 1, '')", 'TABLE order_store.commit_log', 'DELETE FROM order_store.slot_map';
$coordinator->safe_psql('postgres', 'REVOKE SELECT ON order_store.orders FROM clerk');
refused("$clerk SELECT order_proc.list_orders()", '42501', "the coordinator's privileges count: list_orders");
refused("$clerk SELECT order_proc.get_order(4097)", '42501', 'get_order');
$coordinator->safe_psql('postgres', 'GRANT SELECT ON order_store.orders TO clerk; ALTER TABLE order_store.orders ENABLE ROW LEVEL SECURITY');
refused("$clerk SELECT order_proc.list_orders()", '0A000', "row security of the coordinator's table");
refused("$clerk " . create(1), '0A000', 'also when writing');
$coordinator->safe_psql('postgres', 'ALTER TABLE order_store.orders DISABLE ROW LEVEL SECURITY');
$_->safe_psql('postgres', 'CREATE POLICY five ON order_store.orders USING (customer_id = 5); ALTER TABLE order_store.orders ENABLE ROW LEVEL SECURITY') for @shards;
gives("$clerk SELECT DISTINCT customer_id FROM order_proc.list_orders()", '5', "row security of the shards' tables is honoured");
$_->safe_psql('postgres', 'ALTER TABLE order_store.orders DISABLE ROW LEVEL SECURITY') for @shards;
# What the mapping's role may do on the shards does not make up for what the caller may not do here, and what a call needs of a
# table's columns is the same as where the rows are.
mapping("user 'postgres', password_required 'false'");
sub with_only {
	my ($grants, $call, $wanted, $name) = @_;
	$coordinator->safe_psql('postgres', 'REVOKE ALL ON ALL TABLES IN SCHEMA order_store FROM clerk; REVOKE ALL ON ALL SEQUENCES IN SCHEMA order_store FROM clerk; ' . join ' ', map { "GRANT $_ TO clerk;" } @$grants);
	return $wanted =~ /^[0-9A-Z]{5}$/ ? refused("$clerk BEGIN; $call; ROLLBACK;", $wanted, $name) : gives("$clerk BEGIN; $call; ROLLBACK;", $wanted, $name);
}
my %on = (map { $_ => "ON order_store.$_" } qw(orders order_items customers idempotency_keys));
my $sequences = 'USAGE ON ALL SEQUENCES IN SCHEMA order_store';
my $an_order = $coordinator->safe_psql('postgres', 'SELECT id FROM order_proc.list_orders_paginated(1)');
with_only([ "SELECT (id) $on{orders}" ], "SELECT $_", '42501', "one column may be read: $_") for "order_proc.get_order($an_order)", 'order_proc.list_orders()', 'order_proc.list_orders_after(1)', 'order_proc.list_orders_paginated(1)', 'order_proc.order_counts()', "order_proc.outcome(1, 'key')";
with_only([ "SELECT (status) $on{orders}" ], 'SELECT count(*) > 0 FROM order_proc.order_counts()', 't', 'the one that is needed');
with_only([ "SELECT $on{orders}", "SELECT (order_id) $on{order_items}" ], "SELECT order_proc.get_order_with_items($an_order)", '42501', 'one column of the items');
with_only([ "SELECT, UPDATE (notes) $on{orders}", "SELECT $on{order_items}" ], "SELECT order_proc.$_", '42501', "another column may be changed: $_") for "update_order_status($an_order, 'paid')", "refresh_order_totals('{$an_order}')";
with_only([ "SELECT, UPDATE $on{orders}" ], "SELECT order_proc.refresh_order_totals('{$an_order}')", '42501', 'items that are summed may not be read');
with_only([ "SELECT (id), UPDATE (total_amount, updated_at) $on{orders}", "SELECT $on{order_items}" ], "SELECT order_proc.refresh_order_totals('{$an_order}')", '1', 'all that it takes');
my $makes = "SELECT order_proc.create_order_with_items(1, NULL, NULL, '{1}', '{1}', '{1}') > 0";
my @makes = ("INSERT $on{orders}", "INSERT $on{order_items}", "SELECT $on{customers}", $sequences);
with_only(\@makes, $makes, 't', 'an order may be made');
for my $lacks ([ 0, "INSERT (id) $on{orders}" ], [ 1, "INSERT (order_id) $on{order_items}" ], [ 2, "SELECT (id) $on{customers}" ], [ 3, "SELECT $on{customers}" ]) {
	my @grants = @makes;
	$grants[ $lacks->[0] ] = $lacks->[1];
	with_only(\@grants, $_, '42501', "with $lacks->[1] only: $_") for $makes, "INSERT INTO order_proc.order_import VALUES ('r', '1', '1', '1', '1')";
}
with_only([ "INSERT (id) $on{customers}", $sequences ], "SELECT order_proc.create_customer('a', 'b')", '42501', 'one column of customers may be written');
with_only([ "SELECT $on{orders}" ], "SELECT order_proc.$_", '42501', "not with a right to read: $_") for 'new_order_id(1)', "purge_idempotency_keys('1 day')";
with_only([$sequences], 'SELECT order_proc.new_order_id(1) > 0', 't', 'with a right to the sequence');
with_only([$sequences], 'SET TRANSACTION READ ONLY; SELECT order_proc.new_order_id(1)', '25006', 'nothing is taken of a sequence in a read-only transaction');
with_only([ "DELETE $on{idempotency_keys}" ], "SELECT order_proc.purge_idempotency_keys('100 years')", '0', 'with a right to delete keys');
$coordinator->safe_psql('postgres', "SELECT order_proc.grant_store('clerk', 'write')");
mapping("user 'clerk', password '$canary'");
$_->safe_psql('postgres', 'REVOKE INSERT ON order_store.orders FROM clerk') for @shards;
refused($clerk . create(1), '42501', 'and so are their privileges');

# --- another encoding of the client -------------------------------------------------------------------------------------------------

{
	local $ENV{PGCLIENTENCODING} = 'LATIN1';
	my $word = "gr\xf6\xdfer";
	gives("SELECT order_proc.create_order_with_items(1, NULL, NULL, '{1}', '{1}', '{1}', '$word') AS o \\gset\nSELECT notes FROM order_proc.get_order(:o); SELECT notes FROM order_proc.list_orders_paginated(1); SELECT (order_proc.get_order_with_items(:o)).notes;"
		. "SELECT x FROM order_proc.fan_out('SELECT notes FROM order_store.orders WHERE notes = \$1', ARRAY['$word']) AS t(x text)", join("\n", ($word) x 4), 'texts go there and back in LATIN1');
	like(refused("SELECT order_proc.create_order_with_items(1, '$word', NULL, '{1}', '{1}', '{1}')", '22023', 'and so does an error'), qr/$word/, 'with its message');
}
$orders_now++;
gives("SELECT encode(convert_to(notes, 'UTF8'), 'hex') FROM order_store.orders WHERE notes LIKE 'gr%er' AND notes NOT LIKE '% %'", unpack('H*', 'größer'), 'the shard has it in its own', node => $shards[1]);
orders_are(0, 'as one order');

# --- the end ----------------------------------------------------------------------------------------------------------

run('SELECT * FROM order_proc.recover()');
gives('SELECT count(*) FROM order_store.commit_log', '0', 'no decision is left');
gives('SELECT count(*) FROM pg_prepared_xacts', '0', "no prepared transaction is left on shard $shards[$_]{_name}", node => $shards[$_]) for 0 .. 3;
{
	my ($dump) = run_command([ 'pg_dump', '-d', $coordinator->connstr('postgres') ]);
	like($dump, qr/CREATE USER MAPPING/, 'a dump has what PostgreSQL itself puts there');
	$dump =~ s/CREATE USER MAPPING.*?\);\n//sg;
	unlike($dump, qr/$canary/, 'else no password is in a dump');
	unlike(run('SELECT * FROM pg_stat_activity; TABLE order_store.shards; SELECT * FROM order_proc.shard_status')->{output} . $messages, qr/$canary/, 'nor in views and messages');
}
$_->stop for $coordinator, @shards;
for my $node ($coordinator, @shards) {
	my $log = slurp_file($node->logfile);
	is(join("\n", grep { / XX\d{3} (?:ERROR|FATAL|PANIC)|PANIC:|terminated by signal/ } split /\n/, $log), '', 'no crash and no internal error in the log of ' . $node->name);
	unlike($log, qr/$canary/, 'no password in it');
}

done_testing();
