# What a store survives: dump and restore in each form, under the same and under newer versions of the extension; DROP
# EXTENSION; steps while a standby reads and a subscriber follows. Rows, sequences and what users made of the tables are
# compared as pg_dump writes them.
use strict;
use warnings;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir;
my $node = PostgreSQL::Test::Cluster->new('survival');
$node->init(allows_streaming => 'logical', extra => [ '-E', 'UTF8', '--locale=C.UTF-8' ]);
$node->append_conf('postgresql.conf', "fsync = off\nlog_line_prefix = '%m [%p] %e '\nclient_min_messages = warning\nautovacuum = off\n");
$node->start;
$node->safe_psql('postgres', 'CREATE ROLE shop LOGIN; CREATE ROLE app LOGIN; CREATE ROLE auditor');

my @versions = split /\n/, $node->safe_psql('postgres', q{
	SELECT source FROM pg_extension_update_paths('order_proc') GROUP BY source ORDER BY string_to_array(source, '.')::int[]});
my $newest = $versions[-1];

# --- a store with rows and with things of its users' own -----------------------------------------------------------------

sub create_database
{
	my ($name) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $name OWNER shop");
	return $name;
}

my $own = <<'SQL';
SET ROLE shop;
ALTER TABLE order_store.orders ADD COLUMN warehouse text DEFAULT 'north', ADD COLUMN doubled numeric GENERATED ALWAYS AS (total_amount * 2) STORED;
ALTER TABLE order_store.orders SET (fillfactor = 90);
ALTER TABLE order_store.customers ADD COLUMN vip boolean NOT NULL DEFAULT false, ALTER COLUMN email SET STATISTICS 500, ADD CONSTRAINT own_check CHECK (email <> 'nobody');
CREATE INDEX customers_lower_email ON order_store.customers (lower(email)) WHERE email IS NOT NULL;
ALTER TABLE order_store.customers ENABLE ROW LEVEL SECURITY;
CREATE POLICY everybody ON order_store.customers USING (true) WITH CHECK (true);
COMMENT ON COLUMN order_store.customers.email IS 'as given';
COMMENT ON TABLE order_store.orders IS 'all we sold';
GRANT SELECT (id, email) ON order_store.customers TO auditor;
CREATE TABLE order_store.audit (order_id bigint, status text);
GRANT INSERT, SELECT ON order_store.audit TO app;
CREATE FUNCTION order_store.audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO order_store.audit VALUES (NEW.id, NEW.status); RETURN NULL; END $$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON order_store.orders FOR EACH ROW EXECUTE FUNCTION order_store.audit();
CREATE TABLE order_store.own (order_id bigint REFERENCES order_store.orders ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED, remark text);
CREATE VIEW order_store.emails AS SELECT id, email FROM order_store.customers;
CREATE VIEW public.newest_orders AS SELECT o.id, g.items FROM order_proc.list_orders_paginated(5) AS o, LATERAL order_proc.get_order_with_items(o.id) AS g;
RESET ROLE;
SELECT order_proc.create_customer('Ana', 'de la Cruz', 'ana@example.org', 1), order_proc.create_customer('Cher', NULL), order_proc.create_customer(NULL, NULL), order_proc.create_customer(NULL, 'Ng');
SELECT order_proc.create_order_with_items(1 + i % 2, NULL, NULL, ARRAY[i, 8], '{1,2}', '{1.50,2.25}', idempotency_key => 'k' || i) FROM generate_series(1, 20) AS i;
SELECT order_proc.update_order_status(id, 'paid') FROM order_store.orders WHERE customer_id = 1;
INSERT INTO order_store.order_statuses VALUES ('lost', false, true);
INSERT INTO order_store.status_transitions VALUES ('shipped', 'lost');
INSERT INTO order_store.own SELECT id, 'remark' FROM order_store.orders LIMIT 3;
SQL

sub create_store
{
	my ($database, $version) = @_;
	create_database($database);
	$node->safe_psql($database, "CREATE EXTENSION order_proc VERSION '$version'; SELECT order_proc.create_store('shop'); SELECT order_proc.grant_store('app', 'write'); SELECT order_proc.grant_store('auditor', 'read');");
	$node->safe_psql($database, $own);
	return $database;
}

# Goes there version by version, with what the plan prepares.
sub upgrade
{
	my ($database, $from) = @_;
	foreach my $version (grep { older($from, $_) } @versions)
	{
		foreach my $statement (split /\x01/, $node->safe_psql($database, "SELECT coalesce(string_agg(statement, chr(1) ORDER BY step), '') FROM order_proc.migration_plan('$version') WHERE phase = 'prepare'"))
		{
			$node->safe_psql($database, $statement);
		}
		$node->safe_psql($database, "ALTER EXTENSION order_proc UPDATE TO '$version'");
	}
}
sub older { my ($a, $b) = map { [ split /\./ ] } @_; return ($a->[0] <=> $b->[0] || $a->[1] <=> $b->[1]) < 0; }

# All that pg_dump writes of the store, one line each, whatever the order; not when its layouts were reached.
sub picture
{
	my ($database) = @_;
	my ($dump, $err) = run_command([ 'pg_dump', '-n', 'order_store', '-n', 'public', '-d', $node->connstr($database) ]);
	my ($table, @lines) = ('');
	foreach my $line (split /\n/, $dump)
	{
		next if $line =~ /^\\(un)?restrict |^SET |^--|^$/;
		$table = $1 if $line =~ /^COPY (\S+)/;
		$table = '' if $line eq '\\.';
		next if $table =~ /^order_store\.(store|migrations)$/ && $line !~ /^COPY/;
		next if $line =~ /migrations_id_seq', \d/;
		push @lines, "$table $line" =~ s/,$//r;
	}
	return join "\n", sort @lines;
}
# Fails with the lines that only one side has.
sub same_picture
{
	my ($got, $wanted, $name) = @_;
	my %in;
	$in{$_} += 1 foreach split /\n/, $got;
	$in{$_} -= 1 foreach split /\n/, $wanted;
	my @lines = map { ($in{$_} > 0 ? '+ ' : '- ') . $_ } grep { $in{$_} } sort keys %in;
	is(join("\n", @lines), '', $name);
}

sub command { my ($name, @command) = @_; my ($out, $err) = run_command([@command]); is($err, '', $name) or diag($out); }
my $file = 0;
sub dump_to { my ($database, @options) = @_; my $to = "$dir/dump" . ++$file; command("pg_dump @options of $database", 'pg_dump', @options, '-f', $to, '-d', $node->connstr($database)); return $to; }
sub psql_file { my ($database, $from, @options) = @_; command("psql @options into $database", 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-o', "$dir/out", @options, '-d', $node->connstr($database), '-f', $from); }
sub restore { my ($database, $from, @options) = @_; command("pg_restore @options into $database", 'pg_restore', '--exit-on-error', @options, '-d', $node->connstr($database), $from); }

# The functions work: an order is made, its status recorded once, the user's trigger run once for each.
sub works
{
	my ($database, $name) = @_;
	is($node->safe_psql($database, q{
		BEGIN;
		SET LOCAL ROLE app;
		SELECT order_proc.create_order_with_items(1, NULL, NULL, '{1,8}', '{1,2}', '{1.50,2.25}', idempotency_key => 'new') AS o \gset
		SELECT order_proc.create_order_with_items(2, NULL, NULL, '{1,8}', '{1,2}', '{1.50,2.25}', idempotency_key => 'k1') IN (SELECT id FROM order_store.orders WHERE id <> :o);
		SELECT order_proc.update_order_status(:o, 'paid');
		SELECT total_amount, json_array_length(items) FROM order_proc.get_order_with_items(:o);
		SELECT order_proc.create_customer('Eva', 'Gil') > 4;
		RESET ROLE;
		SELECT count(*) FROM order_store.order_status_history WHERE order_id = :o;
		SELECT count(*) FROM order_store.audit WHERE order_id = :o;
		SELECT count(*) FROM public.newest_orders;
		ROLLBACK}), "t\npending\n6.00|2\nt\n1\n2\n5", $name);
}

# --- dump and restore, the same version ----------------------------------------------------------------------------------

my $origin = create_store('origin', $newest);
my $picture = picture($origin);
cmp_ok(scalar(split /\n/, $picture), '>', 250, 'a picture of the store has many lines');
foreach my $part ('CREATE POLICY everybody', 'customers_lower_email', 'fillfactor', 'CREATE TRIGGER audit', 'CREATE TRIGGER record_status_change', 'GRANT SELECT\(id\)',
	'as given', 'STATISTICS 500', 'doubled numeric GENERATED', 'setval', 'order_store.own .*remark', 'OWNER TO shop')
{
	like($picture, qr/$part/, "$part in it");
}

psql_file(create_database('plain'), dump_to($origin));
same_picture(picture('plain'), $picture, 'plain: all of it is there');
works('plain', 'and works');

restore(create_database('custom'), dump_to($origin, '-Fc'), '-j', '2');
same_picture(picture('custom'), $picture, 'custom, two jobs: all of it is there');
works('custom', 'and works');

# Triggers are there before the rows: ours add nothing to rows that are inserted; the user's are switched off by the option.
create_database('two_parts');
psql_file('two_parts', dump_to($origin, '--schema-only'));
psql_file('two_parts', dump_to($origin, '--data-only', '--disable-triggers'));
# ENABLE TRIGGER ALL, as pg_dump has it, takes ALWAYS back.
like($node->safe_psql('two_parts', q{SELECT string_agg(tgname, ', ') FROM pg_trigger WHERE tgenabled = 'A'}), qr/^$/, 'pg_dump enables triggers as ordinary ones');
$node->safe_psql('two_parts', <<'SQL');
SET ROLE shop;
SELECT format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', tgrelid::regclass, tgname)
FROM pg_trigger WHERE tgrelid::regclass::text LIKE 'order_store.%' AND tgfoid::regproc::text LIKE 'order_proc.%_changed' \gexec
SQL
same_picture(picture('two_parts'), $picture, 'the schema, then the rows: all of it is there');
works('two_parts', 'and works');
create_database('two_parts_firing');
psql_file('two_parts_firing', dump_to($origin, '--schema-only'));
psql_file('two_parts_firing', dump_to($origin, '--data-only', '--exclude-table-data=order_store.audit'));
is($node->safe_psql('two_parts_firing', 'SELECT count(*) FROM order_store.order_status_history'),
	$node->safe_psql($origin, 'SELECT count(*) FROM order_store.order_status_history'), 'with triggers on: no change of status is recorded twice');

# The owner is no superuser: the extension is made by one, the store is dumped and restored by its owner.
create_database('by_owner');
$node->safe_psql('by_owner', 'CREATE EXTENSION order_proc');
restore('by_owner', dump_to($origin, '-Fc', '-U', 'shop', '-n', 'order_store'), '-U', 'shop', '-j', '2');
$node->safe_psql('by_owner', 'SET ROLE shop; CREATE VIEW public.newest_orders AS SELECT o.id, g.items FROM order_proc.list_orders_paginated(5) AS o, LATERAL order_proc.get_order_with_items(o.id) AS g');
same_picture(picture('by_owner'), $picture, 'by the owner: all of it is there');
works('by_owner', 'and works');

# --- under a newer version -----------------------------------------------------------------------------------------------

foreach my $version (grep { $_ ne $newest } @versions)
{
	my $old = create_store('old_' . $version =~ tr/./_/r, $version);
	my $as_dumped = picture($old);
	restore(create_database("restored_$old"), dump_to($old, '-Fc'));
	same_picture(picture("restored_$old"), $as_dumped, "$version under $newest: all of it is there");
	my ($status, $out, $err) = $node->psql("restored_$old", '\set VERBOSITY verbose
		SELECT order_proc.list_orders()');
	like($err, qr/ERROR:  OP002: the store has layout \Q$version\E, the extension is at version \Q$newest\E\nHINT:  SELECT order_proc\.migrate_store\(\);/, 'its functions say what to run');
	$node->safe_psql("restored_$old", $err =~ /HINT:  (.*)/ ? $1 : die 'no hint');
	is($node->safe_psql("restored_$old", 'SELECT order_proc.schema_version()'), $newest, 'migrate_store brings it up');
	upgrade($old, $version);
	same_picture(picture("restored_$old"), picture($old), 'as if it had been upgraded where it was');
	works($_, "$_ works") foreach "restored_$old", $old;
}

# --- DROP EXTENSION ------------------------------------------------------------------------------------------------------

$picture = picture('custom');
my ($status, $out, $err) = $node->psql('custom', 'DROP EXTENSION order_proc');
like($err, qr/cannot drop extension order_proc because other objects depend on it/, 'DROP EXTENSION refuses');
same_picture(picture('custom'), $picture, 'and leaves everything');
my $rows = sub { join "\n", grep { /^order_store\.\S+ / } split /\n/, picture($_[0]) };
my $before = $rows->('custom');
$node->safe_psql('custom', 'DROP EXTENSION order_proc CASCADE');
same_picture($rows->('custom'), $before, 'with CASCADE it leaves every row');
$node->safe_psql('custom', 'CREATE EXTENSION order_proc; SELECT order_proc.migrate_store(); SET ROLE shop;
	CREATE VIEW public.newest_orders AS SELECT o.id, g.items FROM order_proc.list_orders_paginated(5) AS o, LATERAL order_proc.get_order_with_items(o.id) AS g');
same_picture(picture('custom'), $picture, 'and migrate_store puts back what it took');
works('custom', 'and it works again');

# --- a standby, and a subscriber -----------------------------------------------------------------------------------------

my $oldest = create_store('followed', '1.0');
$node->safe_psql($oldest, "GRANT EXECUTE ON FUNCTION order_proc.migrate_store(text) TO shop");
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;

my $subscriber = PostgreSQL::Test::Cluster->new('subscriber');
$subscriber->init(allows_streaming => 'logical', extra => [ '-E', 'UTF8', '--locale=C.UTF-8' ]);
$subscriber->append_conf('postgresql.conf', "fsync = off\nclient_min_messages = warning\n");
$subscriber->start;
$subscriber->safe_psql('postgres', q{CREATE EXTENSION order_proc VERSION '1.0'; SELECT order_proc.create_store()});
my $tables = join ', ', map { "order_store.$_" } qw(customers orders order_items order_status_history idempotency_keys);
# A generated column is not replicated, and the subscriber has none of the others.
$node->safe_psql($oldest, 'ALTER TABLE order_store.orders DROP COLUMN doubled, DROP COLUMN warehouse; ALTER TABLE order_store.customers DROP COLUMN vip');
$node->safe_psql($oldest, "CREATE PUBLICATION shop FOR TABLE $tables");
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION shop CONNECTION '" . ($node->connstr($oldest) =~ tr/'//dr) . "' PUBLICATION shop");
$subscriber->wait_for_subscription_sync($node, 'shop');

# One session of the standby reads all the time; what it prints is looked at in the end.
my $read = "SELECT order_proc.schema_version() || ' ' || (order_proc.get_order_with_items((SELECT min(id) FROM order_store.orders))).total_amount;\n";
my ($read_out, $read_err, $read_in) = ('', '', '');
my $reader = IPC::Run::start([ 'psql', '-XAtq', '-d', $standby->connstr($oldest) ], '<', \$read_in, '>', \$read_out, '2>', \$read_err);
sub read_once
{
	my ($version) = @_;
	$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
	$read_out = '';
	$read_in .= $read;
	$reader->pump until $read_out =~ /\n/ || $read_err ne '';
	is("$read_err$read_out", "$version 6.00\n", "an open session of the standby reads at $version");
}
sub rows_on { my ($server, $database) = @_; return $server->safe_psql($database, join ';', map {
	my $order = /customers|orders/ ? 'id' : /keys/ ? 'customer_id, key' : 'order_id, id'; "SELECT '$_', to_jsonb(t) - 'name' FROM $_ AS t ORDER BY $order" } split /, /, $tables); }
sub followed
{
	my ($version) = @_;
	is($node->safe_psql($oldest, q{
		SELECT order_proc.create_order_with_items(order_proc.create_customer('Eva', 'Gil Sanz'), NULL, NULL, '{7}', '{2}', '{2.50}') AS o \gset
		SELECT order_proc.update_order_status(:o, 'paid')}), 'pending', "an order at $version");
	$node->wait_for_catchup('shop');
	is(rows_on($subscriber, 'postgres'), rows_on($node, $oldest), 'arrives at the subscriber, each change of status once');
	is($subscriber->safe_psql('postgres', q{SELECT status, customer_name, json_array_length(items) FROM order_proc.get_order_with_items((SELECT id FROM order_store.orders WHERE customer_name = 'Eva Gil Sanz' ORDER BY created_at DESC LIMIT 1))}),
		'paid|Eva Gil Sanz|1', 'where the functions read it');
}
read_once('1.0');
followed('1.0');
foreach my $version (@versions[ 1 .. $#versions ])
{
	# DDL is not replicated. Up: the subscriber first, so that it has each column that may arrive; but a column that goes
	# is sent no more before it goes there. Names of 1.3 are filled in on both sides before 1.4.
	if ($version eq '1.4')
	{
		$node->safe_psql($oldest, 'CALL order_proc.backfill_customer_names()');
		$node->wait_for_catchup('shop');
		$subscriber->safe_psql('postgres', 'CALL order_proc.backfill_customer_names()');
	}
	my @servers = ([ $subscriber, 'postgres' ], [ $node, $oldest ]);
	@servers = reverse @servers if $version eq '1.4';
	$_->[0]->safe_psql($_->[1], "ALTER EXTENSION order_proc UPDATE TO '$version'") foreach @servers;
	read_once($version);
	followed($version);
}
foreach my $version (reverse @versions[ 0 .. $#versions - 1 ])
{
	my @servers = ([ $node, $oldest ], [ $subscriber, 'postgres' ]);
	@servers = reverse @servers if $version eq '1.3';
	$_->[0]->safe_psql($_->[1], "ALTER EXTENSION order_proc UPDATE TO '$version'") foreach @servers;
	read_once($version);
	followed($version);
}
$read_in .= "\\q\n";
$reader->finish;
$standby->promote;
$standby->safe_psql($oldest, "ALTER EXTENSION order_proc UPDATE TO '1.3'; CALL order_proc.backfill_customer_names(); ALTER EXTENSION order_proc UPDATE");
is($standby->safe_psql($oldest, 'SELECT order_proc.schema_version()'), $newest, 'promoted, the standby takes all steps itself');

unlike(slurp_file($_->logfile), qr/ XX\d{3} ERROR|PANIC|was terminated by signal/, 'no internal error in the log of ' . $_->name) foreach $node, $standby, $subscriber;
$_->stop foreach $subscriber, $standby, $node;
done_testing();
