# fan_out_aggregate over four real shards against one database with all rows: the queries of
# test/sql/include/aggregate_queries.sql. One shard has most of the customers, one a single order, one nothing.
use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

sub make_node {
	my ($name) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(extra => [ '-E', 'UTF8', '--locale=C.UTF-8', '--no-sync' ]);
	$node->append_conf('postgresql.conf', "max_prepared_transactions = 20\nfsync = off\nclient_min_messages = warning\ntimezone = 'Asia/Tokyo'\n");
	$node->start;
	return $node;
}

# Their own settings differ from the coordinator's.
my $coordinator = make_node('coordinator');
my $server = make_node('shards');
$server->append_conf('postgresql.conf', "datestyle = 'SQL, DMY'\nintervalstyle = 'iso_8601'\nextra_float_digits = 0\nlc_monetary = 'C'\n");
$server->restart;

my $third_party = 1;
for my $extension (qw(tdigest hll)) {
	$third_party = 0 unless $coordinator->safe_psql('postgres', "SELECT count(*) FROM pg_available_extensions WHERE name = '$extension'");
}
my $types = 'CREATE SCHEMA aggregates;';
my $extensions = $third_party ? 'CREATE EXTENSION tdigest SCHEMA aggregates; CREATE EXTENSION hll SCHEMA aggregates;' : '';
my $store = "CREATE EXTENSION order_proc; SELECT order_proc.create_store(placement => 'modulo'); $types $extensions";
$coordinator->safe_psql('postgres', 'CREATE DATABASE whole; CREATE EXTENSION postgres_fdw');
$coordinator->safe_psql($_, $store) for qw(postgres whole);
for my $n (0 .. 3) {
	$server->safe_psql('postgres', "CREATE DATABASE shard$n");
	$server->safe_psql("shard$n", "$store CREATE TYPE aggregates.mood AS ENUM ('sad', 'ok', 'happy');");
	$coordinator->safe_psql('postgres', "CREATE SERVER s$n FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '" . $server->host . "', port '" . $server->port . "', dbname 'shard$n');"
		. "CREATE USER MAPPING FOR CURRENT_USER SERVER s$n; SELECT order_proc.add_shard('s$n');");
}

# --- rows ------------------------------------------------------------------------------------------------------

my $include = "$FindBin::Bin/../sql/include/aggregate_queries.sql";
$coordinator->safe_psql($_, "\\i $include\nCALL aggregates.describe_queries();") for qw(postgres whole);
$coordinator->safe_psql('whole', 'CALL aggregates.fill_store(); DELETE FROM order_store.orders WHERE customer_id % 4 = 3 OR customer_id % 4 = 2 AND (customer_id > 2 OR id <> (SELECT min(id) FROM order_store.orders WHERE customer_id = 2));'
	. "DELETE FROM order_store.customers WHERE id % 4 = 3 OR id % 4 = 2 AND id > 2; UPDATE order_store.orders SET notes = 'Grüße €' WHERE notes IS NOT NULL AND customer_id % 8 = 1;");
my %customer = (customers => 'id', orders => 'customer_id', order_items => '(SELECT customer_id FROM order_store.orders AS o WHERE o.id = order_id)',
	order_status_history => '(SELECT customer_id FROM order_store.orders AS o WHERE o.id = order_id)', idempotency_keys => 'customer_id');
for my $n (0 .. 3) {
	for my $table (qw(customers orders order_items order_status_history idempotency_keys)) {
		my $rows = $coordinator->safe_psql('whole', "COPY (SELECT t.* FROM order_store.$table AS t WHERE mod($customer{$table}, 4) = $n) TO STDOUT");
		next if $rows eq '';
		$server->safe_psql("shard$n", "COPY order_store.$table FROM STDIN;\n$rows\n\\.\n");
	}
}
is($coordinator->safe_psql('postgres', "SELECT string_agg(n::text, ' ' ORDER BY n) FROM order_proc.fan_out('SELECT count(*) FROM order_store.orders') AS t (n bigint)"),
	join(' ', sort { $a <=> $b } map { $coordinator->safe_psql('whole', "SELECT count(*) FROM order_store.orders WHERE mod(customer_id, 4) = $_") } 0 .. 3), 'orders of the shards');
is($server->safe_psql('shard2', 'SELECT count(*) FROM order_store.orders'), 1, 'a shard with one order');
is($server->safe_psql('shard3', 'SELECT count(*) FROM order_store.customers'), 0, 'a shard without rows');

# --- the same answers -------------------------------------------------------------------------------------------

my $own = $third_party ? "INSERT INTO aggregates.queries (query) SELECT format(shape, call) FROM (VALUES ('aggregates.tdigest_count(aggregates.tdigest(i.price::double precision, 100))'),
	('round(aggregates.tdigest_percentile(i.price::double precision, 2000, 0.5)::numeric, 0)'), ('aggregates.hll_cardinality(aggregates.hll_add_agg(aggregates.hll_hash_bigint(i.product_id)))')) AS c (call),
	(VALUES ('SELECT %s AS c1 FROM order_store.order_items i'), ('SELECT o.status AS c1, %s AS c2 FROM order_store.orders o JOIN order_store.order_items i ON i.order_id = o.id GROUP BY o.status')) AS s (shape);" : '';
$coordinator->safe_psql($_, "$own CALL aggregates.describe_queries();") for qw(postgres whole);

sub answers {
	my ($database, $how, $settings) = @_;
	my %answer;
	for (split /\x1e/, $coordinator->safe_psql($database, "$settings SELECT string_agg(number || E'\\x1f' || query || E'\\x1f' || aggregates.$how(number), E'\\x1e' ORDER BY number) FROM aggregates.queries")) {
		my ($number, $query, $answer) = split /\x1f/;
		$answer{$number} = [ $query, $answer ];
	}
	return \%answer;
}

my %settings = ('default settings' => '', 'other settings' => "SET client_encoding = 'WIN1252'; SET datestyle = 'German'; SET intervalstyle = 'sql_standard'; SET timezone = 'America/Caracas'; SET extra_float_digits = -5;");
for my $setting (sort keys %settings) {
	my $direct = answers('whole', 'directly', $settings{$setting});
	my $fanned = answers('postgres', 'by_fan_out', $settings{$setting});
	cmp_ok(scalar keys %$direct, '>=', 900, "$setting: queries");
	my @failed = grep { $direct->{$_}[1] =~ /^[0-9A-Z]{5} / } keys %$direct;
	is(scalar @failed, 0, "$setting: each can be run") or diag join("\n", map { join "\n", @{ $direct->{$_} } } @failed[0 .. $#failed]);
	# What would be a text of the shards' settings is refused.
	my @refused = grep { ($fanned->{$_}[1] // '') =~ /^0A000 fan_out_aggregate cannot split .* with (?:DateStyle German|extra_float_digits -5)$/ } keys %$direct;
	cmp_ok(scalar @refused, '<=', $setting eq 'default settings' ? 0 : 40, "$setting: few are refused") or diag join("\n", map { $direct->{$_}[0] } @refused);
	delete @$direct{@refused};
	my @others = grep { $direct->{$_}[1] ne ($fanned->{$_}[1] // 'nothing') } sort { $a <=> $b } keys %$direct;
	is(scalar @others, 0, "$setting: the same over four shards") or diag join("\n", map { substr(join("\n", $direct->{$_}[0], $direct->{$_}[1], $fanned->{$_}[1] // 'nothing'), 0, 900) } @others[0 .. ($#others > 5 ? 5 : $#others)]);
}

# --- the caller's settings --------------------------------------------------------------------------------------

sub psql { my ($sql) = @_; my ($code, $out, $err) = $coordinator->psql('postgres', "\\set VERBOSITY verbose\n$sql"); return "$out" . ($err =~ /ERROR:\s+(.*)/ ? $1 : ''); }
sub gives { my ($sql, $expected, $what) = @_; return is(psql($sql), $expected, $what); }

for my $style ('SQL, DMY', 'Postgres, MDY', 'German', 'ISO, YMD') {
	my $set = "SET timezone = 'Asia/Kolkata'; SET datestyle = '$style';";
	gives("$set SELECT DISTINCT to_char(x, 'YYYY-MM-DD HH24:MI OF'), d = date '2024-03-04' FROM order_proc.fan_out(\$\$SELECT timestamptz '2024-03-20 10:00+00', date '2024-03-04'\$\$) AS t (x timestamptz, d date)",
		'2024-03-20 15:30 +05:30|t', "timestamps come as what they are: $style");
	gives("$set SELECT min(extract(epoch FROM at)) = (SELECT x FROM order_proc.fan_out_aggregate('SELECT extract(epoch FROM min(created_at)) FROM order_store.orders') AS t (x numeric)) FROM order_proc.fan_out_aggregate('SELECT created_at, count(*) FROM order_store.orders GROUP BY 1') AS t (at timestamptz, n bigint)",
		't', "so do groups: $style");
	gives("$set SELECT DISTINCT x = '01/02/03'::date FROM order_proc.fan_out(\$\$SELECT '01/02/03'::date\$\$) AS t (x date)", 't', "texts are read in the caller's order: $style");
}
gives("SET bytea_output = escape; SELECT DISTINCT x, y FROM order_proc.fan_out(\$\$SELECT '\\xff61'::bytea::text, '\\xff61'::bytea\$\$) AS t (x text, y bytea)", '\377a|\377a', 'bytea_output goes along');
my $by_text = sub { my ($expression) = @_; return "SELECT count(*) FROM order_proc.fan_out_aggregate(\$\$SELECT $expression, count(*) FROM order_store.orders GROUP BY 1\$\$) AS t (x text, n bigint)"; };
for (['created_at::text', 'the cast of timestamp with time zone to text'], [ 'concat(status, created_at)', 'concat("any")' ], [ "format('%s', ARRAY[created_at])", 'format(text,"any")' ], [ "status || created_at", 'textanycat(text,anynonarray)' ]) {
	my ($expression, $name) = @$_;
	like(psql("SET datestyle = 'SQL, DMY'; " . $by_text->($expression)), qr/0A000: fan_out_aggregate cannot split \Q$name\E with DateStyle SQL, DMY$/, "refused in a style that shards do not write: $expression");
	like(psql("SET datestyle = 'ISO, DMY'; " . $by_text->($expression)), qr/^\d+$/, "not in ISO: $expression");
}
like(psql('SET extra_float_digits = 0; ' . $by_text->('(total_amount::float8 / 3)::text')), qr/0A000: .* the cast of double precision to text with extra_float_digits 0$/, 'fewer digits');
like(psql('SET extra_float_digits = 1; ' . $by_text->('(total_amount::float8 / 3)::text')), qr/^\d+$/, 'all digits');
like(psql("SET datestyle = 'SQL, DMY'; " . $by_text->("concat(status, total_amount, id)")), qr/^\d+$/, 'texts of others are not refused');
like(psql("SET datestyle = 'SQL, DMY'; " . $by_text->("status || (date '2024-03-04')::text")), qr/^\d+$/, 'nor are constants');
gives("SET datestyle = 'SQL, DMY'; SELECT DISTINCT x FROM order_proc.fan_out_aggregate(\$\$SELECT (date '2024-03-04')::text, count(*) FROM order_store.orders GROUP BY 1\$\$) AS t (x text, n bigint)", '04/03/2024', 'which are written here');

my $backslashes = "SELECT n = (SELECT sum(m) FROM order_proc.fan_out('SELECT count(*) FROM order_store.orders') AS t (m bigint)) FROM order_proc.fan_out_aggregate(\$\$SELECT count(*) FROM order_store.orders WHERE status || E'\\\\' = status || chr(92)\$\$) AS t (n bigint)";
gives("SET escape_string_warning = off; SET standard_conforming_strings = $_; $backslashes", 't', "standard_conforming_strings = $_") for qw(on off);
$coordinator->safe_psql('whole', "SET escape_string_warning = off; SET standard_conforming_strings = off; SELECT 1 / (n - 0) FROM order_proc.fan_out_aggregate(\$\$SELECT count(*) FROM order_store.orders WHERE status || E'\\\\' = status || chr(92)\$\$) AS t (n bigint)");

# The clock is the caller's.
unlike($coordinator->safe_psql('postgres', "SELECT shard_query FROM order_proc.explain_fan_out_aggregate(\$\$SELECT count(*) FROM order_store.orders WHERE created_at < $_\$\$)"), qr/\b(?:now|today)\b/, "evaluated here: $_")
	for "'now'::text::timestamptz", "'today'::text::date", "ALL ('{now,today}'::text::timestamptz[])";

# --- what ran on a shard leaves no settings ----------------------------------------------------------------------

$server->safe_psql('postgres', 'CREATE ROLE settings_guest');
for (['DateStyle', 'SQL, DMY'], [ 'search_path', 'public' ], [ 'TimeZone', 'Asia/Kolkata' ], [ 'default_transaction_read_only', 'on' ], [ 'role', 'settings_guest' ], [ 'session_authorization', 'settings_guest' ], [ 'enable_seqscan', 'off' ]) {
	my ($name, $value) = @$_;
	my $shows = "SELECT DISTINCT v FROM order_proc.fan_out(\$\$SELECT concat_ws(' ', current_setting('DateStyle'), current_setting('search_path'), current_setting('TimeZone'), current_setting('default_transaction_read_only'), current_user, session_user, current_setting('enable_seqscan'))\$\$) AS t (v text)";
	my $before = psql($shows);
	my $set = "SELECT FROM order_proc.fan_out_exec(\$\$SELECT set_config('$name', '$value', false)\$\$)";
	my $write = "SELECT DISTINCT command_tag FROM order_proc.fan_out_exec('UPDATE order_store.customers SET email = email WHERE false')";
	gives("$set \\g /dev/null\n$shows; $write; $shows", "$before\nUPDATE 0\n$before", "$name is as before");
	gives("BEGIN; $set \\g /dev/null\n$shows; SAVEPOINT a; $write; ROLLBACK TO a; $shows; COMMIT; $shows", "$before\nUPDATE 0\n$before\n$before", "$name in a transaction");
	gives("BEGIN; $set \\g /dev/null\nROLLBACK; $shows; $write; SET order_proc.read_consistency = atomic; $set \\g /dev/null\n$shows", "$before\nUPDATE 0\n$before", "$name behind a ROLLBACK, and in a cut");
}
# A trigger that sets what servers report.
my $trigger_sets = sub {
	$server->safe_psql("shard$_", "CREATE OR REPLACE FUNCTION public.sets() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN PERFORM set_config('$_[0]', '$_[1]', false); RETURN NEW; END \$\$; CREATE OR REPLACE TRIGGER sets BEFORE INSERT ON order_store.orders FOR EACH ROW EXECUTE FUNCTION public.sets()") for 0 .. 3;
};
my $insert = "SELECT order_proc.create_order_with_items(1, NULL, NULL, '{7}', '{2}', '{1.50}') > 0;";
$trigger_sets->('DateStyle', 'SQL, DMY');
gives("$insert SELECT DISTINCT x = date '2024-03-04' FROM order_proc.fan_out(\$\$SELECT date '2024-03-04'\$\$) AS t (x date)", "t\nt", 'nor does a trigger');
$trigger_sets->('default_transaction_read_only', 'on');
gives($insert x 2, "t\nt", 'whatever it is');

# --- arguments ---------------------------------------------------------------------------------------------------

for my $database (qw(postgres whole)) {
	my $error = sub { my ($sql) = @_; my ($code, $out, $err) = $coordinator->psql($database, "\\set VERBOSITY verbose\n$sql"); return $err =~ /ERROR:\s+(.*)/ ? $1 : $out; };
	my $ask = sub { my ($query, $args) = @_; return $error->("SELECT DISTINCT x FROM order_proc.fan_out('$query', $args) AS t (x text)"); };
	is($ask->('SELECT $1 || $2', "ARRAY['a', 'b']"), 'ab', "$database: arguments");
	is($ask->('SELECT $1 || $1', "ARRAY['a', 'b', 'c']"), '42P02: args has 3 values, the query has fewer parameters', "$database: too many");
	like($ask->('SELECT $2 || $1', "ARRAY['a']"), qr/^(?:08P01|42P02): /, "$database: too few");
	like($ask->('SELECT $2::text', "ARRAY['a', 'b']"), qr/^42P18: could not determine data type of parameter \$1/, "$database: one that is not used");
	is($ask->('SELECT 1', "array_fill('a'::text, ARRAY[70000])"), '54023: args has 70000 values, 65535 are the most', "$database: far too many");
}
done_testing();
