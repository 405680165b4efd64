# Imports by clients that go wrong: garbage in the COPY protocol, bytes that are no text, a line of 500 MB, connections
# that break. Each gets an error with its SQLSTATE, or its line a reject; nothing is left behind, the server stays up.
# And a client that does everything right, with 1,000,000 lines: the backend's memory stays bounded.
use strict;
use warnings;

use IO::Socket::UNIX;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $customers = 1000;

my $node = PostgreSQL::Test::Cluster->new('clients');
$node->init(extra => [ '-E', 'UTF8', '--locale=C.UTF-8' ]);
$node->append_conf('postgresql.conf', <<'CONF');
shared_buffers = 128MB
max_wal_size = 4GB
log_line_prefix = '%m [%p] %e '
log_statement = none
autovacuum = off
client_min_messages = warning
CONF
$node->start;
$node->safe_psql('postgres', <<"SQL");
CREATE EXTENSION order_proc;
SELECT order_proc.create_store();
INSERT INTO order_store.customers (id, first_name) SELECT n, 'Customer ' || n FROM generate_series(1, $customers) AS n;
VACUUM ANALYZE order_store.customers;
SQL

my $left_behind = <<"SQL";
SELECT concat_ws(', ', (SELECT count(*) FROM order_store.orders) || ' orders', (SELECT count(*) FROM order_store.order_items) || ' items',
  (SELECT count(*) FROM order_store.order_status_history) || ' history', (SELECT count(*) FROM order_store.idempotency_keys) || ' keys',
  (SELECT count(*) FROM order_store.import_rejects) || ' rejects', (SELECT count(*) FROM order_store.customers) - $customers || ' customers',
  (SELECT count(*) FROM pg_ls_tmpdir()) || ' files', (SELECT count(*) FROM pg_stat_progress_copy) || ' copies')
SQL
my $nothing = '0 orders, 0 items, 0 history, 0 keys, 0 rejects, 0 customers, 0 files, 0 copies';

sub empty { $node->safe_psql('postgres', 'TRUNCATE order_store.orders, order_store.order_items, order_store.order_status_history, order_store.idempotency_keys, order_store.import_rejects'); }

sub nothing_left {
	my ($name) = @_;
	# A backend whose client has gone takes a moment to end.
	$node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'raw')");
	is($node->safe_psql('postgres', $left_behind), $nothing, "  nothing is left behind: $name");
}

# --- a client that speaks the protocol by hand ---------------------------------------------------------------------------

sub message { my ($type, $body) = @_; return $type . pack('N', 4 + length $body) . $body; }

sub write_all {
	my ($socket, $bytes) = @_;
	local $SIG{PIPE} = 'IGNORE';
	for (my $at = 0; $at < length $bytes;) {
		my $wrote = syswrite $socket, $bytes, 1 << 20, $at;
		return 0 unless $wrote;
		$at += $wrote;
	}
	return 1;
}

sub read_exactly {
	my ($socket, $count) = @_;
	my $bytes = '';
	while (length $bytes < $count) {
		return undef unless sysread $socket, $bytes, $count - length $bytes, length $bytes;
	}
	return $bytes;
}

# Reads until a message of this type or the end of the connection; errors as [severity, state, message].
sub read_until {
	my ($socket, $wanted) = @_;
	my @errors;
	while (defined(my $head = read_exactly($socket, 5))) {
		my ($type, $length) = unpack 'aN', $head;
		my $body = read_exactly($socket, $length - 4) // last;
		if ($type eq 'E') {
			my %fields = map { (substr($_, 0, 1), substr($_, 1)) } grep { length } split /\0/, $body;
			push @errors, [ @fields{qw(V C M)} ];
		}
		return ($type, @errors) if $type eq $wanted;
	}
	return ('', @errors);
}

sub connection {
	my $socket = IO::Socket::UNIX->new(Peer => $node->host . '/.s.PGSQL.' . $node->port) or die "cannot connect: $!";
	my $user = getpwuid $<;
	my $start = pack('N', 3 << 16) . join '', map { "$_\0" } user => $user, database => 'postgres', application_name => 'raw', client_min_messages => 'warning', '';
	write_all($socket, pack('N', 4 + length $start) . $start);
	my ($type, @errors) = read_until($socket, 'Z');
	$type eq 'Z' or die "cannot log in: $errors[0][2]";
	return $socket;
}

# A connection in the middle of a COPY, after some lines that are right.
my $lines = join '', map { 'G' . ($_ % 7) . ',' . (1 + $_ % 7) . ",$_,1,2.50,,\n" } 1 .. 20;
sub start_copy {
	my ($copy, $first) = @_;
	my $socket = connection();
	write_all($socket, message('Q', "$copy\0"));
	my ($type, @errors) = read_until($socket, 'G');
	$type eq 'G' or die "no COPY: $errors[0][2]";
	write_all($socket, message('d', $first)) if length $first;
	return $socket;
}

my $csv = 'COPY order_proc.order_import FROM STDIN (FORMAT csv)';
my $whole = q{COPY order_proc.order_import_lines FROM STDIN (FORMAT csv, DELIMITER E'\x01', QUOTE E'\x02')};

# What is sent after the first lines, and the answer it gets. `lost`: the connection ends with it.
sub refused {
	my ($name, $bytes, $state, $text, %options) = @_;
	my $socket = start_copy($options{copy} // $csv, $options{first} // $lines);
	write_all($socket, $bytes);
	my ($type, @errors) = read_until($socket, 'Z');
	ok(@errors > 0, "$name: an error");
	is($errors[0][1] // 'none', $state, "  SQLSTATE $state");
	like($errors[0][2] // '', $text, '  and a message');
	is($type, $options{lost} ? '' : 'Z', $options{lost} ? '  the connection is closed' : '  the connection goes on');
	unless ($options{lost}) {
		write_all($socket, message('Q', "SELECT 1\0"));
		($type, @errors) = read_until($socket, 'Z');
		is("$type@errors", 'Z', '  and works');
	}
	close $socket;
	nothing_left($name);
}
my $done = message('c', '');

# --- the protocol ------------------------------------------------------------------------------------------------------

refused('an unknown type of message', "\x01garbage", '08P01', qr/unexpected message type 0x01 during COPY/, lost => 1);
refused('a query in the middle of the data', message('Q', "SELECT 1\0"), '08P01', qr/unexpected message type 0x51 during COPY/, lost => 1);
refused('a message of negative length', "d\xff\xff\xff\xff", '08006', qr/unexpected EOF on client connection/, lost => 1);
refused('a message longer than anything', "d\x7f\xff\xff\xff", '08006', qr/unexpected EOF on client connection/, lost => 1);
refused('CopyFail', message('f', "gave up\0"), '57014', qr/COPY from stdin failed: gave up/);

# Whatever bytes come: an error, or the data as they are.
srand 3;
for my $try (1 .. 20) {
	my $socket = start_copy($try % 2 ? $csv : $whole, $lines);
	my $garbage = join '', map { chr int rand 256 } 1 .. 1 + int rand 200;
	$garbage = message('d', $garbage) . $done if $try % 3 == 0;
	write_all($socket, $garbage);
	shutdown $socket, 1;
	my ($type, @errors) = read_until($socket, 'nothing');
	my @odd = grep { $_->[1] !~ /^(?:08006|08P01|22021|22P04)$/ } @errors;
	ok(@errors > 0 && @odd == 0, "random bytes, $try: " . join ' ', map { $_->[1] } @errors);
	close $socket;
}
nothing_left('random bytes');

# --- the data ------------------------------------------------------------------------------------------------------------

for my $view ([ order_import => $csv ], [ order_import_lines => $whole ]) {
	my ($name, $copy) = @$view;
	my %to = (copy => $copy);
	refused("$name, a NUL byte", message('d', "G1,1,1,1,\0" . "1,,\n") . $done, '22021', qr/invalid byte sequence for encoding "UTF8": 0x00/, %to);
	refused("$name, invalid UTF-8", message('d', "G1\xe9,1,1,1,1,,\n") . $done, '22021', qr/invalid byte sequence for encoding "UTF8": 0xe9/, %to);
	refused("$name, UTF-8 cut off at the end", message('d', "G1\xc3") . $done, '22021', qr/invalid byte sequence for encoding "UTF8": 0xc3/, %to);
	refused("$name, UTF-16", message('d', "\xff\xfeG\0" . "1\0,\0") . $done, '22021', qr/invalid byte sequence for encoding "UTF8": 0xff/, first => '', %to);
}
refused('a quote that is never closed', message('d', qq{"G1,1,1,1,1,,\n}) . $done, '22P04', qr/unterminated CSV quoted field/);
refused('too many fields', message('d', "G1,1,1,1,1,,,\n") . $done, '22P04', qr/extra data after last expected column/);
refused('two ways to end a line', message('d', "G1,1,1,1,1,,\r\n") . $done, '22P04', qr/unquoted carriage return found in data/);
my $binary = 'COPY order_proc.order_import FROM STDIN (FORMAT binary)';
refused('text for a binary COPY', message('d', $lines) . $done, '22P04', qr/COPY file signature not recognized/, copy => $binary, first => '');
my $signature = "PGCOPY\n\xff\r\n\0" . pack 'NN', 0, 0;
refused('a binary COPY with a field of nonsense length', message('d', $signature . pack('nN', 7, 0x80000000)) . $done, '22P04', qr/invalid field size/, copy => $binary, first => '');
refused('a binary COPY that breaks off', message('d', $signature . pack('nNa*', 7, 100, 'G1')) . $done, '22P04', qr/unexpected EOF in COPY data/, copy => $binary, first => '');
refused('a binary COPY with a NUL in a text', message('d', $signature . pack('n(N/a*)*', 7, "G\0" . '1', 1, 1, 1, 1, '', '')) . $done, '22021', qr/invalid byte sequence for encoding "UTF8": 0x00/, copy => $binary, first => '');

# --- a line of 500 MB ------------------------------------------------------------------------------------------------------

my ($available) = slurp_file('/proc/meminfo') =~ /^MemAvailable:\s+([0-9]+)/m;
SKIP: {
	skip 'less than 6 GB of memory are free', 8 if $available < 6e6;
	my $chunk = message('d', 'x' x 1_000_000);
	for my $view ([ order_import => $csv ], [ order_import_lines => $whole ]) {
		my ($name, $copy) = @$view;
		my $socket = start_copy($copy, $lines);
		my $sent = 1;
		$sent &&= write_all($socket, $chunk) for 1 .. 500;
		write_all($socket, message('d', ",1,1,1,1,,\n") . message('d', "G1,2,99,1,1,,\n") . $done);
		my ($type, @errors) = read_until($socket, 'Z');
		ok($sent, "$name, a line of 500 MB: sent");
		is(join('', $type, map { "@$_" } @errors), 'Z', '  is no error');
		is($node->safe_psql('postgres', 'SELECT line_number, length(raw_line), sqlstate, message FROM order_store.import_rejects'),
			'21|65536|22023|order_ref is longer than 255 bytes: "' . 'x' x 64 . '..."', '  but a reject');
		is($node->safe_psql('postgres', 'SELECT count(*) FROM order_store.order_items'), '21', '  the other lines are items');
		close $socket;
		empty();
	}
}

# --- the client goes away ----------------------------------------------------------------------------------------------------

for my $case ([ 'between two messages', '' ], [ 'in the middle of a line', message('d', 'G1,1,1') ], [ 'in the middle of a message', "d\0\0\0\xffG1,1" ], [ 'in the middle of a length', "d\0\0" ], [ 'with Terminate', message('X', '') ]) {
	my ($name, $bytes) = @$case;
	my $socket = start_copy($csv, $lines x 1000);
	write_all($socket, $bytes);
	close $socket;
	nothing_left("the client goes $name");
}
{
	# All has been said: the import is committed, whether anybody hears of it or not.
	my $socket = start_copy($csv, $lines);
	write_all($socket, $done . message('X', ''));
	close $socket;
	$node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'raw')");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM order_store.order_items'), '20', 'a client that does not wait for the answer');
	empty();
}

# --- memory ------------------------------------------------------------------------------------------------------------------

my $count = 1_000_000;
my $file = PostgreSQL::Test::Utils::tempdir . '/lines.csv';
my $orders = $count / 10;
# Orders whose lines lie apart; one line in fifty is bad.
$node->safe_psql('postgres', <<"SQL");
COPY (
  SELECT 'R' || n * 7919 % $orders, 1 + n * 7919 % $orders % $customers, n % 1000, CASE WHEN n % 50 = 0 THEN 0 ELSE 1 + n % 9 END, n % 7 + 0.25, '2026-01-01 12:00:00', 'paid'
  FROM generate_series(1::bigint, $count) AS n
) TO '$file' (FORMAT csv)
SQL
SKIP: {
	skip 'no /proc here', 4 unless -r "/proc/$$/status";
	for my $memory (4, 64) {
		my ($out, $messages, $most, $pid) = ('', '', 0);
		local $ENV{PGAPPNAME} = 'measured';
		my $import = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-c', "SET work_mem = '${memory}MB'", '-c', 'SELECT pg_backend_pid()', '-c', "\\copy order_proc.order_import FROM '$file' (FORMAT csv)" ],
			'<', \undef, '>', \$out, '2>', \$messages);
		while (IPC::Run::pumpable($import)) {
			IPC::Run::pump_nb($import);
			($pid) = $out =~ /^([0-9]+)\n/ unless $pid;
			if ($pid && open my $status, '<', "/proc/$pid/status") {
				local $/;
				my ($now) = (<$status> // '') =~ /^RssAnon:\s+([0-9]+) kB/m;
				$most = $now if defined $now && $now > $most;
			}
			sleep 0.01;
		}
		IPC::Run::finish($import);
		is($node->safe_psql('postgres', 'SELECT (SELECT count(*) FROM order_store.order_items), (SELECT count(*) FROM order_store.import_rejects)'), $count / 50 * 49 . '|' . $count / 50, "$count lines with work_mem = $memory MB");
		ok($most > 1024 && $most <= ($memory + 64) * 1024, sprintf '  in %d MiB of private memory, at most %d', $most / 1024, $memory + 64);
		empty();
	}
}

$node->stop;
my $log = slurp_file($node->logfile);
is(join("\n", grep { / XX\d{3} (?:ERROR|FATAL|PANIC)|PANIC:|terminated by signal/ } split /\n/, $log), '', 'no crash, no internal error');

done_testing();
