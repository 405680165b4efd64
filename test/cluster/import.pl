# Imports that are disturbed: killed, cancelled, timed out, out of disk. Nothing is left behind, and they stop soon.
use strict;
use warnings;

use File::Path qw(make_path);
use FindBin;
use IPC::Run ();
use lib $FindBin::RealBin;
use Calls qw(crash);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Strikes;
use Test::More;
use Time::HiRes qw(sleep time);

my $lines = 1_000_000;
my $dir = PostgreSQL::Test::Utils::tempdir;

# --- a server --------------------------------------------------------------------------------------------------

# A file system that is full: this library refuses to make files longer whose path has the text in the file FULL.
my $full = "$dir/full";
my $shim = "$dir/full.so";
append_to_file("$dir/full.c", <<'C');
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int refused(int fd, off_t end)
{
	char text[64] = "", link[64], path[4096];
	struct stat status;
	ssize_t length;
	int file = open(getenv("FULL"), O_RDONLY);

	if (file < 0)
		return 0;
	length = read(file, text, sizeof text - 1);
	close(file);
	if (length <= 0 || fstat(fd, &status) != 0 || end <= status.st_size)
		return 0;
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof path - 1);
	if (length < 0)
		return 0;
	path[length] = 0;
	if (strstr(path, text) == NULL)
		return 0;
	errno = ENOSPC;
	return 1;
}
ssize_t pwrite64(int fd, const void *data, size_t size, off_t at)
{
	static ssize_t (*real)(int, const void *, size_t, off_t);
	if (refused(fd, at + (off_t) size)) return -1;
	if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
	return real(fd, data, size, at);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return pwrite64(fd, data, size, at); }
C
my $have_shim = !system_log('cc', '-shared', '-fPIC', '-O1', '-o', $shim, "$dir/full.c", '-ldl');

my $node = PostgreSQL::Test::Cluster->new('import');
$node->init(allows_streaming => 'logical', extra => [ '-E', 'UTF8', '--locale=C.UTF-8' ]);
$node->append_conf('postgresql.conf', <<'CONF');
restart_after_crash = on
shared_buffers = 128MB
max_wal_size = 4GB
log_line_prefix = '%m [%p] %e '
log_statement = none
autovacuum = off
work_mem = 4MB
client_min_messages = warning
CONF
{
	local %ENV = %ENV;
	@ENV{qw(LD_PRELOAD FULL)} = ($shim, $full) if $have_shim;
	$node->start;
}
# The library preloads itself into what the server starts, not into what we start.
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION order_proc;
SELECT order_proc.create_store();
INSERT INTO order_store.customers (id, first_name, email) SELECT n, 'Customer ' || n, n || '@example.invalid' FROM generate_series(1, 10000) AS n;
VACUUM ANALYZE order_store.customers;

-- What an import left without ids, and what may not be left.
CREATE FUNCTION left_behind() RETURNS text LANGUAGE sql AS $$
  SELECT concat_ws(', ', (SELECT count(*) FROM order_store.orders) || ' orders', (SELECT count(*) FROM order_store.order_items) || ' items',
    (SELECT count(*) FROM order_store.idempotency_keys) || ' keys', (SELECT count(*) FROM order_store.import_rejects) || ' rejects',
    (SELECT count(*) FROM order_store.customers) - 10000 || ' customers', (SELECT count(*) FROM pg_ls_tmpdir()) || ' files',
    (SELECT count(*) FROM pg_locks WHERE pid <> pg_backend_pid() AND locktype IN ('advisory', 'relation') AND database <> 0 AND relation IS DISTINCT FROM 0
       AND pid IN (SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'import%')) || ' locks')
$$;
SQL
make_strike($node);
my $nothing = '0 orders, 0 items, 0 keys, 0 rejects, 0 customers, 0 files, 0 locks';

# Orders of five lines that lie apart; each third line is bad, so that the rejects take their time, too. One customer in
# a hundred is unknown.
sub write_lines {
	my ($file, $count) = @_;
	my $orders = $count / 5;
	$node->safe_psql('postgres', <<"SQL");
COPY (
  SELECT 'R' || o, CASE WHEN o % 100 = 99 THEN 20000 + o ELSE 1 + o % 10000 END, n % 1000, CASE WHEN n % 3 = 0 THEN 'none' ELSE (1 + n % 9)::text END, n % 7 + 0.25, '2026-01-01 12:00:00', 'paid'
  FROM (SELECT n, n * 7919 % $orders AS o FROM generate_series(1::bigint, $count) AS n) AS l
) TO '$file' (FORMAT csv)
SQL
}
my $file = "$dir/lines.csv";
write_lines($file, $lines);
write_lines("$dir/few.csv", 50_000);

# --- an import in the background -----------------------------------------------------------------------------------

my $serial = 0;

# Starts psql with this SQL; its output and messages are gathered.
sub start_import {
	my ($sql, %options) = @_;
	my $import = { name => 'import' . ++$serial, output => '', messages => '', input => '' };
	local $ENV{PGAPPNAME} = $import->{name};
	local $ENV{PGOPTIONS} = '-c client_min_messages=warning ' . ($options{settings} // '');
	my @command = ('psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $node->connstr('postgres'), map { ('-c', $_) } ref $sql ? @$sql : $sql);
	$import->{run} = IPC::Run::start(\@command, '<', \$import->{input}, '>', \$import->{output}, '2>', \$import->{messages});
	return $import;
}

sub end_import {
	my ($import) = @_;
	eval { IPC::Run::finish($import->{run}) };
	my ($state) = $import->{messages} =~ /(?:ERROR|FATAL):\s+([0-9A-Z]{5}):/;
	$import->{state} = $state // ($import->{messages} =~ /server closed the connection|terminated abnormally/ ? 'gone' : '');
	return $import->{state};
}

my $copy = "COPY order_proc.order_import FROM '$file' (FORMAT csv)";
sub left_behind { return $node->safe_psql('postgres', 'SELECT left_behind()'); }

# Lines that survive reading go into the sort; then they are loaded.
my $whole = start_import($copy, settings => '-c log_min_duration_statement=0');
my $began = time;
is(end_import($whole), '', 'an undisturbed import');
my $duration = time - $began;
my ($rejected, $items) = split /\|/, $node->safe_psql('postgres', 'SELECT (SELECT count(*) FROM order_store.import_rejects), (SELECT count(*) FROM order_store.order_items)');
is($rejected + $items, $lines, 'all its lines are items or rejects');
cmp_ok($rejected, '>', $lines / 3 - 1, 'a third of them are rejects');
note(sprintf 'it took %.1f s', $duration);

sub empty { $node->safe_psql('postgres', 'TRUNCATE order_store.orders, order_store.order_items, order_store.order_status_history, order_store.idempotency_keys, order_store.import_rejects'); }
empty();

my @phases = (
	[ 'reading', $lines / 10, $lines - 1 ],
	[ 'at the end of reading', $lines * 9 / 10, $lines - 1 ],
	[ 'the sort', $lines, $lines ],
	[ 'loading', $lines + 50_000, $lines + $items - 1 ],
	[ 'at the end of loading', $lines + $items * 8 / 10, $lines + $items - 1 ],
	[ 'writing rejects', $lines + $items, $lines + $items ]);

# --- cancel and terminate, in every phase -----------------------------------------------------------------------------

for my $how ([ 'pg_cancel_backend', '57014' ], [ 'pg_terminate_backend', '57P01' ]) {
	for my $memory ('4MB', '256MB') {
		for my $phase (@phases) {
			my ($name, $from, $to) = @$phase;
			# Enough for the whole sort: it is one long step.
			next if $memory eq '256MB' && $name ne 'the sort';
			my ($took, $state);
			for my $try (1 .. 3) {
				my $import = start_import($copy, settings => "-c work_mem=$memory");
				$took = strike($node, application => $import->{name}, statement => '^COPY', lines => [ $from, $to ], how => $how->[0]);
				$state = end_import($import);
				last if $took;
				empty() if $state eq '';
			}
			SKIP: {
				skip "$how->[0], $name, work_mem $memory: was over too soon to be met", 3 unless $took;
				is($state, $how->[1], "$how->[0], $name, work_mem $memory");
				stops_soon($took);
				is(left_behind(), $nothing, '  nothing is left behind');
			}
		}
	}
}

# --- statement_timeout ------------------------------------------------------------------------------------------------

for my $part (0.1, 0.3, 0.5, 0.7, 0.9) {
	my $timeout = int($duration * 1000 * $part);
	my $import = start_import([ "SET statement_timeout = $timeout", $copy ]);
	my $took = strike($node, application => $import->{name}, statement => '^COPY', age => $timeout, how => 'statement_timeout');
	my $state = end_import($import);
	if ($state eq '') { empty(); next; }
	is($state, '57014', "statement_timeout after $timeout ms");
	SKIP: { skip 'was over too soon to be met', 1 unless $took; stops_soon($took); }
	is(left_behind(), $nothing, '  nothing is left behind');
}

# --- an order that is large, cancelled where its items go through the disk ------------------------------------------------

{
	my $one = "COPY order_proc.order_import FROM PROGRAM 'seq 1 $lines | sed s/.*/ONE,7,\\&,1,0.25,,paid/' (FORMAT csv)";
	my ($took, $state);
	for my $try (1 .. 3) {
		my $import = start_import($one);
		# All lines are sorted and the batch with its one order is being written.
		$took = strike($node, application => $import->{name}, statement => '^COPY', lines => [ 2 * $lines - 1024, 3 * $lines ], how => 'pg_cancel_backend');
		$state = end_import($import);
		empty() if $state eq '';
		last if $took;
	}
	SKIP: {
		skip 'was over too soon to be met', 2 unless $took;
		is($state, '57014', 'pg_cancel_backend while an order of 1,000,000 items is written');
		stops_soon($took);
	}
	is(left_behind(), $nothing, '  nothing is left behind');
}

# --- the backend is killed: the server restarts -----------------------------------------------------------------------

for my $phase ($phases[0], $phases[3], $phases[5]) {
	my ($name, $from, $to) = @$phase;
	my $import = start_import($copy);
	my $pid = '';
	until ($pid ne '' || $import->{messages} ne '' || !IPC::Run::pumpable($import->{run})) {
		IPC::Run::pump_nb($import->{run});
		$pid = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_progress_copy JOIN pg_stat_activity USING (pid) WHERE application_name = '$import->{name}' AND tuples_processed BETWEEN $from AND $to");
	}
	my $crashed = $pid ne '' && crash($node, $pid);
	my $state = end_import($import);
	SKIP: {
		if (!$crashed || $state eq '') { empty(); skip "SIGKILL, $name: was over too soon to be met", 1; }
		is(left_behind(), $nothing, "SIGKILL, $name: nothing is left behind");
	}
}

# --- the disk is full -------------------------------------------------------------------------------------------------

SKIP: {
	skip 'no C compiler for a library that refuses to write', 9 unless $have_shim;
	for my $case ([ 'temporary files', 'pgsql_tmp' ], [ 'tables', '/base/' ]) {
		my ($name, $path) = @$case;
		append_to_file($full, $path);
		my $import = start_import($copy);
		is(end_import($import), '53100', "no room for $name");
		like($import->{messages}, qr/No space left on device/, '  as the message says');
		unlink $full;
		is(left_behind(), $nothing, '  nothing is left behind');
	}
	# The disk fills while orders are written.
	my $import = start_import($copy);
	my $met = $node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM pg_stat_progress_copy WHERE tuples_processed > $lines + 100000)");
	append_to_file($full, '/base/');
	is(end_import($import), '53100', 'no room any more while orders are written');
	unlink $full;
	is(left_behind(), $nothing, '  nothing is left behind');
	is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_stat_progress_copy'), '0', '  and no COPY');
}
{
	my $import = start_import($copy, settings => '-c temp_file_limit=1MB');
	is(end_import($import), '53400', 'temp_file_limit');
	is(left_behind(), $nothing, '  nothing is left behind');
}

# --- and nothing crashed that we did not kill -------------------------------------------------------------------------------

$node->stop;
my $log = slurp_file($node->logfile);
my @killed = $log =~ /was terminated by signal 9/g;
my @other = grep { / XX\d{3} (?:ERROR|FATAL|PANIC)|PANIC:|terminated by signal (?!9:)/ } split /\n/, $log;
cmp_ok(scalar @killed, '<=', 3, 'no crash but those that were made');
is("@other", '', 'no internal error');

done_testing();
