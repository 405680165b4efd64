# Calls and what they answer, for the tests over several servers.
package Calls;

use strict;
use warnings;

use Exporter qw(import);
use IPC::Run ();
use PostgreSQL::Test::Utils qw(slurp_file);
use Psql;
use Test::More;

our @EXPORT = qw(run refused gives session ended wait_for hold release crash);
# Where calls go that name no other place, and whether a script ends with its first error.
our ($node, $database, $stop) = (undef, 'postgres', 1);

# Output, errors, and the first SQLSTATE of the errors. node, database, role, stop: otherwise than usual.
sub run {
	my ($sql, %how) = @_;
	my ($output, $errors);
	($how{node} // $node)->psql($how{database} // $database, "\\set VERBOSITY verbose\n$sql", stdout => \$output, stderr => \$errors,
		on_error_stop => $how{stop} // $stop, extra_params => $how{role} ? [ '-U', $how{role} ] : []);
	my ($state) = $errors =~ /(?:ERROR|FATAL):\s+([0-9A-Z]{5}):/;
	return { output => $output, errors => $errors, state => $state // '' };
}

# One test each: the SQLSTATE, or the output. They return the messages.
sub refused { my ($sql, $state, $name, %how) = @_; my $it = run($sql, %how); is($it->{state}, $state, $name) or diag $it->{errors}; return $it->{errors}; }
sub gives { my ($sql, $wanted, $name, %how) = @_; my $it = run($sql, %how); is($it->{output}, $wanted, $name) or diag $it->{errors}; return $it->{errors}; }

# A session in the background; its commands come through a pipe. node, database, role as above; name: its application_name.
sub session {
	my ($sql, %how) = @_;
	my %session = (input => "\\set VERBOSITY verbose\n$sql\n", output => '', errors => '');
	local $ENV{PGAPPNAME} = $how{name} // 'victim';
	$session{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', ($how{node} // $node)->connstr($how{database} // $database), $how{role} ? ('-U', $how{role}) : () ],
		'<', \$session{input}, '>', \$session{output}, '2>', \$session{errors});
	$session{run}->pump_nb;
	return \%session;
}

# Its first SQLSTATE, once it has ended.
sub ended {
	my ($session) = @_;
	eval { IPC::Run::finish($session->{run}) };
	my ($state) = $session->{errors} =~ /(?:ERROR|FATAL):\s+([0-9A-Z]{5}):/;
	return $state // '';
}

sub wait_for { my ($where, $sql) = @_; $where->poll_query_until('postgres', $sql) or die "waited in vain for $sql"; }

# A session that holds the advisory lock 77, for triggers to wait at.
sub hold {
	my ($where) = @_;
	my $holder = session('BEGIN; SELECT pg_advisory_xact_lock(77);', node => $where, name => 'holder');
	wait_for($where, "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 77 AND granted)");
	return $holder;
}
sub release { my ($holder) = @_; $holder->{input} .= "COMMIT;\n\\q\n"; ended($holder); }

# Kills a process of a server, which starts anew; false when the process had ended before.
sub crash {
	my ($where, $pid) = @_;
	my $restarts = sub { return scalar(() = slurp_file($where->logfile) =~ /all server processes terminated; reinitializing/g); };
	my $before = $restarts->();
	return 0 unless kill 'KILL', $pid;
	for (1 .. 1800) { last if $restarts->() > $before; select undef, undef, undef, 0.1; }
	wait_for($where, 'SELECT true');
	return 1;
}

1;
