# A driver's COPY: docs/examples/node-copy imports a file through order_proc.order_import, as a role with nothing but
# 'write'. Skipped, with the reason, where node or the packages of npm's registry are not to be had.
use strict;
use warnings;
use File::Copy qw(copy);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $example = 'docs/examples/node-copy';
my $folder = PostgreSQL::Test::Utils::tempdir();

# Calls a program in the folder of the example's copy: exit status 0, standard output, standard error.
sub run_in_folder
{
	my ($stdin, @command) = @_;
	my ($out, $err) = ('', '');
	my $ok = IPC::Run::run(\@command, '<', $stdin, '>', \$out, '2>', \$err,
		init => sub { chdir $folder or die "chdir: $!" }, IPC::Run::timeout(120));
	return ($ok, $out, $err);
}

sub found { return IPC::Run::run(['sh', '-c', 'command -v "$1"', '-', $_[0]], '>', \my $path, '2>', \my $err); }

foreach my $program (qw(node npm))
{
	plan skip_all => "there is no $program" unless found($program);
}
my ($answers) = run_in_folder(\'', qw(npm view --fetch-retries=0 --fetch-timeout=20000 pg-copy-streams version));
plan skip_all => "npm's registry does not answer" unless $answers;

foreach my $file (qw(package.json package-lock.json .npmrc import.mjs))
{
	copy("$example/$file", "$folder/$file") or die "$example/$file: $!";
}
my ($installed, undef, $complaint) = run_in_folder(\'', qw(npm ci --ignore-scripts));
ok($installed, 'npm ci installs what the lock file says') or BAIL_OUT($complaint);
unlike(slurp_file("$example/package-lock.json"), qr/"resolved"/, 'the lock file names no registry');

my $node = PostgreSQL::Test::Cluster->new('shop');
$node->init;
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION order_proc;
	SELECT order_proc.create_store();
	CREATE ROLE app LOGIN;
	SELECT order_proc.grant_store('app', 'write');
	SELECT count(order_proc.create_customer('Ana', 'Cruz', id => i)) FROM generate_series(1, 100) AS i;});

local $ENV{PGHOST} = $node->host;
local $ENV{PGPORT} = $node->port;
local $ENV{PGUSER} = 'app';
local $ENV{PGDATABASE} = 'postgres';

sub stored
{
	return $node->safe_psql('postgres', q{SELECT (SELECT count(*) FROM order_store.orders),
		(SELECT count(*) FROM order_store.order_items), (SELECT sum(total_amount) FROM order_store.orders),
		(SELECT count(*) FROM order_store.import_rejects)});
}

sub summary { return { map { split ' ', $_, 2 } split /\n/, $_[0] }; }

# Far more than one of the driver's pieces (64 KiB); every 50th line is bad.
my $good = join '', map { sprintf "ref %d,%d,%d,%d,0.25,,\n", $_ % 5000, 1 + $_ % 100, $_, 1 + $_ % 3 } 1 .. 30000;
my $bad = join '', map { "ref $_,1,1,-1,1.00,,\n" } 1 .. 600;
my $header = "order_ref,customer_id,product_id,quantity,price,created_at,status\n";
PostgreSQL::Test::Utils::append_to_file("$folder/lines.csv", $header . $good . $bad);
my $total = 0;
$total += 0.25 * (1 + $_ % 3) for 1 .. 30000;
my $all = sprintf '5000|30000|%.2f|', $total;

my ($ok, $out, $err) = run_in_folder(\'', qw(node import.mjs lines.csv));
ok($ok, 'a file is imported') or diag($err);
my $summary = summary($out);
is_deeply([@$summary{qw(lines rejected orders items known)}], [30600, 600, 5000, 30000, 0], 'and its summary printed');
like($err, qr/^NOTICE: import \d+: 5000 orders with 30000 items made/, 'the notice arrives');
is(stored(), $all . 600, 'the store has it');
is($node->safe_psql('postgres', 'SELECT min(line_number), max(line_number) FROM order_store.import_rejects'),
	'30002|30601', 'rejects carry the numbers of their lines');

my $content = $header . $good;
($ok, $out, $err) = run_in_folder(\$content, qw(node import.mjs -));
ok($ok, 'the good lines again, from standard input') or diag($err);
$summary = summary($out);
is_deeply([@$summary{qw(rejected orders items known)}], [0, 0, 0, 5000], 'add nothing: their orders are known');
is(stored(), $all . 600, 'the store is as it was');

{
	local $ENV{PGOPTIONS} = '-c order_proc.import_on_error=abort';
	($ok, $out, $err) = run_in_folder(\"${header}new,1,1,1,1.00,,\nnew,1,1,none,1.00,,\n", qw(node import.mjs -));
	ok(!$ok, 'import_on_error = abort fails at a bad line');
	like($err, qr/^quantity is not of type integer: "none"\nLine 3 of the import\./, 'and says which one and why');
	is(stored(), $all . 600, 'leaving nothing');
}

# The first pieces are sent by then, the rest cannot be read.
my $broken = "import { Readable } from 'node:stream'; export * from 'node:fs';\n"
  . "export const createReadStream = () => Readable.from((function* () {\n"
  . "  for (let i = 0; i < 5000; ++i) yield `new \${i},1,1,1,1.00,,\\n`;\n"
  . "  throw new Error('the disk broke');\n})());\n";
PostgreSQL::Test::Utils::append_to_file("$folder/broken.mjs", $broken);
my $script = slurp_file("$folder/import.mjs") =~ s{'node:fs'}{'./broken.mjs'}r;
PostgreSQL::Test::Utils::append_to_file("$folder/import_broken.mjs", $script);
($ok, $out, $err) = run_in_folder(\'', qw(node import_broken.mjs lines.csv));
ok(!$ok, 'a file that breaks off fails');
like($err, qr/the disk broke/, 'with its own error');
is(stored(), $all . 600, 'and leaves nothing');

$node->stop;
done_testing();
