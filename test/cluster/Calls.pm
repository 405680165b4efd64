# Calls and what they answer, for the tests over several servers.
package Calls;

use strict;
use warnings;

use Exporter qw(import);
use Test::More;

our @EXPORT = qw(run refused gives);
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

1;
