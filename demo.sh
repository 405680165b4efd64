#!/usr/bin/env bash
# demo.sh: installs what is missing, builds and installs the extension, and shows it at work on real orders.
#
#   demo.sh             everything in one server, its shards are databases of it
#   demo.sh --servers   each shard is a server of its own
#
# Leaves a throw-away server running to look around in; the next demo.sh stops it and starts anew. The orders are the
# lines in $ORDER_PROC_DATA or ../shared/data/online_retail (order_lines.csv.xz, customers.csv.xz, expected.json), dirty
# as they come, when they are there, otherwise generated ones. Called by root it installs into the system's PostgreSQL;
# called by anybody else into a private copy of it.
set -euo pipefail
# shellcheck source=test/lib.sh
source "$(dirname "$0")/test/lib.sh"

readonly data=${ORDER_PROC_DATA:-$top/../shared/data/online_retail}
readonly generated=100000  # lines, when there are no real ones
readonly dirty=40          # every so many of these is bad

# Where the application works: shop, a database with a store, or cluster, which coordinates four shards.
database=shop

psql_at() { as_user "$bindir/psql" -X -q -v ON_ERROR_STOP=1 -h "$1" -p "$server_port" "${@:2}"; }
psql() { psql_at "$server" "$@"; }
# The application is no superuser. It owns the store, and that is all it needs.
shop() { psql -U shop -d "$database" "$@"; }
value() { shop -At -c "$1"; }
show() {
  printf '\n-- %s\n' "$1"
  shop -P footer=off -c "$1"
}
# Times what a script on standard input prints.
narrate() { while IFS= read -r line; do say "  $line"; done; }

build_and_install() {
  local tree log=$work/build.log
  tree=$work/tree-$(checkout_name)
  copy_checkout "$tree"
  say 'building'
  run_logged building "$log" as_user make -C "$tree" -j "$(nproc)" PG_CONFIG="$pg_config" ||
    { tail -n 40 "$log" >&2; die "the build failed; all of its output is in $log"; }
  grep ': OK' "$log" | narrate
  if [ "$(id -u)" != 0 ]; then
    pg_config=$(private_postgres "$work/postgres")
    bindir=$(dirname "$pg_config")
  fi
  say "installing into $("$pg_config" --pkglibdir)"
  make -C "$tree" PG_CONFIG="$pg_config" install >>"$log" 2>&1 ||
    { tail -n 20 "$log" >&2; die "make install failed; all of its output is in $log"; }
}

create_shop() {
  psql -U postgres -d postgres -c 'CREATE ROLE shop LOGIN' -c 'CREATE DATABASE shop OWNER shop'
  psql -U postgres -d shop -c 'CREATE EXTENSION order_proc' -c "SELECT order_proc.create_store('shop')" >/dev/null
}

real_customers() {
  cat <<'SQL'
CREATE TEMP TABLE new_customer (id bigint, name text, email text);
COPY new_customer FROM stdin WITH (FORMAT csv, HEADER);
SQL
  xzcat "$data/customers.csv.xz"
  cat <<'SQL'
\.
SELECT count(order_proc.create_customer(order_proc.first_name(name), order_proc.last_name(name), email, id)) || ' customers'
FROM new_customer;
SQL
}

generated_customers() {
  cat <<'SQL'
SELECT count(order_proc.create_customer(
         (ARRAY['Ana','Bruno','Chen','Dana','Emre','Farah'])[1 + i % 6],
         (ARRAY['de la Cruz','Meier','Wang','Okafor','Yilmaz'])[1 + i % 5],
         'customer' || i || '@example.invalid')) || ' customers'
FROM generate_series(1, 500) AS i;
SQL
}

real_lines() { xzcat "$data/order_lines.csv.xz"; }

# The lines of an order stand far apart.
generated_lines() {
  awk -v lines="$generated" -v dirty="$dirty" 'BEGIN {
    split("pending paid processing shipped delivered cancelled", status)
    print "order_ref,customer_id,product_id,quantity,price,created_at,status"
    for (i = 1; i <= lines; i++) {
      n = (i * 7919) % 20011
      customer = 1 + n % 500; quantity = 1 + i % 5; price = sprintf("%d.%02d", 1 + i % 90, i % 100)
      if (i % dirty == 0) {
        kind = (i / dirty) % 5
        if (kind == 0) customer = ""
        if (kind == 1) customer = 99999999
        if (kind == 2) quantity = -quantity
        if (kind == 3) price = "free"
        if (kind == 4) quantity = "99999999999"
      }
      printf "web-%d,%s,%d,%s,%s,2026-01-%02d 12:00:00,%s\n", n, customer, 1 + i % 1000, quantity, price, 1 + n % 28, status[1 + n % 6]
    }
  }'
}

# How far the COPY is that runs now: it first reads all lines, then loads the clean ones, order by order.
copy_progress() {
  psql -U postgres -d "$database" -At -v lines="$1" <<'SQL'
SELECT CASE WHEN tuples_processed <= :lines THEN to_char(tuples_processed, 'FM999,999,999') || ' lines read'
            ELSE to_char(tuples_processed - :lines, 'FM999,999,999') || ' lines loaded' END
FROM pg_stat_progress_copy WHERE relid = 'order_proc.order_import'::regclass;
SQL
}

# import FILE LINES: sets imported to "lines accepted|rejected|orders made|known before".
import() {
  local file=$1 lines=$2 log=$work/import.log process
  shop -At -c "\\copy order_proc.order_import FROM '$file' WITH (FORMAT csv, HEADER)" \
    -c 'SELECT lines - rejected, rejected, orders, known FROM order_proc.last_import()' >"$log" 2>&1 &
  process=$!
  while sleep 1; kill -0 "$process" 2>/dev/null; do copy_progress "$lines" | narrate; done
  wait "$process" || { cat "$log" >&2; die 'the import failed'; }
  sed '$d' "$log" | narrate
  imported=$(tail -n 1 "$log")
}

# sums QUERY: a query of three numbers, added up over the shards where there are any.
sums() {
  case $database in
    shop) value "SELECT format('%s orders, %s items, total %s', a, b, c) FROM ($1) AS t(a, b, c)" ;;
    cluster) value "SELECT format('%s orders, %s items, total %s', sum(a), sum(b), sum(c)) FROM order_proc.fan_out(\$\$$1\$\$) AS t(a bigint, b bigint, c numeric)" ;;
  esac
}
stored() { sums 'SELECT (SELECT count(*) FROM order_store.orders), (SELECT count(*) FROM order_store.order_items), (SELECT sum(total_amount) FROM order_store.orders)'; }

expected() { sed -n "s/^ *\"$1\": *\"\{0,1\}\([0-9.]*\)\"\{0,1\},\{0,1\}$/\1/p" "$data/expected.json"; }

# check_import LINES: the files' own account of what a correct import gives; or what was generated.
check_import() {
  local accepted rejected orders known found wanted
  IFS='|' read -r accepted rejected orders known <<<"$imported"
  found="$accepted lines accepted, $rejected rejected"
  if [ "$kind" = real ]; then
    found+=", $orders orders, $(stored | sed 's/.*\(total .*\)/\1/')"
    wanted="$(expected accepted_lines) lines accepted, $(expected rejected_lines) rejected, $(expected orders_loaded_skip_row) orders, total $(expected total_amount_skip_row)"
  else
    wanted="$(($1 - $1 / dirty)) lines accepted, $(($1 / dirty)) rejected"
  fi
  [ "$found" = "$wanted" ] || die "expected $wanted; found $found"
  [ "$known" = 0 ] || die "$known orders were known before the first import"
  say "as expected: $found"
}

fill_shop() {
  local file=$work/order_lines.csv lines orders before
  kind=generated
  [ ! -r "$data/order_lines.csv.xz" ] || kind=real
  case $kind in
    real) say "the real orders in $(cd "$data" && pwd)" ;;
    generated) say "no order lines in $data: generating some" ;;
  esac
  "${kind}_customers" | shop -At | narrate
  "${kind}_lines" | as_user tee "$file" >/dev/null
  lines=$(($(wc -l <"$file") - 1))
  say "importing $lines lines, dirty as they are: \\copy order_proc.order_import FROM '$file' WITH (FORMAT csv, HEADER)"
  import "$file" "$lines"
  check_import "$lines"
  before=$(stored)
  orders=$(cut -d '|' -f 3 <<<"$imported")
  say 'importing the same file again'
  import "$file" "$lines"
  [ "$(stored)" = "$before" ] || die "the second import made $(stored) of $before"
  [ "$(cut -d '|' -f 3-4 <<<"$imported")" = "0|$orders" ] || die "of $orders orders the second import did not know all: $imported"
  say "nothing was added, all $orders orders were known: $before"
}

# Where the server of a shard is: the one of all, or with --servers one of its own.
server_of() { if [ "$servers" = yes ]; then echo "$work/$1"; else echo "$server"; fi; }

# create_store_in DATABASE SERVER
create_store_in() {
  psql_at "$2" -U postgres -d postgres -c "CREATE DATABASE $1 OWNER shop"
  psql_at "$2" -U postgres -d "$1" -At -c 'CREATE EXTENSION order_proc' -c "SELECT order_proc.create_store('shop')" \
    -c 'GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA order_proc TO shop' >/dev/null
}

# Four shards, and a fifth database that coordinates them.
create_cluster() {
  local shard its
  create_store_in cluster "$server"
  psql -U postgres -d cluster -c 'CREATE EXTENSION postgres_fdw'
  for shard in "${shards[@]}"; do
    its=$(server_of "$shard")
    if [ "$servers" = yes ]; then
      say "starting a server for $shard in $its"
      start_server "$bindir" "$its" max_prepared_transactions=20
      psql_at "$its" -U postgres -d postgres -c 'CREATE ROLE shop LOGIN'
    fi
    create_store_in "$shard" "$its"
    # These servers ask nobody for a password, so there is none to put into the mapping: superusers may allow that.
    psql -U postgres -d cluster -c "CREATE SERVER $shard FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$its', port '$server_port', dbname '$shard')" \
      -c "CREATE USER MAPPING FOR shop SERVER $shard OPTIONS (user 'shop', password_required 'false')" -c "GRANT USAGE ON FOREIGN SERVER $shard TO shop"
    value "SELECT format('%s is shard %s', '$shard', order_proc.add_shard('$shard'))" | narrate
  done
}

show_cluster() {
  database=cluster
  say 'the same orders over four shards, through one database that coordinates them'
  create_cluster
  fill_shop
  show "SELECT * FROM order_proc.fan_out('SELECT order_proc.shard_id(), (SELECT count(*) FROM order_store.customers), count(*), sum(total_amount)
  FROM order_store.orders') AS t(shard int, customers bigint, orders bigint, total numeric) ORDER BY shard"
  live_order
  show 'SELECT * FROM order_proc.order_counts()'
  show "SELECT * FROM order_proc.fan_out_aggregate('SELECT status, count(*), round(avg(total_amount), 2), round(stddev(total_amount), 2)
  FROM order_store.orders GROUP BY status ORDER BY 2 DESC, 1') AS t(status text, orders bigint, average numeric, deviation numeric)"
  show 'SELECT id, customer_id, order_proc.shard_for_order(id) AS shard, total_amount, customer_name, created_at FROM order_proc.list_orders_paginated(10)'
}

# An order of today, from the first call on.
live_order() {
  local customer id again call
  customer=$(value 'SELECT customer_id FROM order_proc.list_orders_paginated(1)')
  call="order_proc.create_order_with_items($customer, NULL, NULL, ARRAY[101, 102, 103], ARRAY[1, 2, 3], ARRAY[19.99, 5.00, 0.75], 'leave at the door', 'demo-1')"
  id=$(value "SELECT $call")
  again=$(value "SELECT $call")
  [ "$id" = "$again" ] || die "the same idempotency key made two orders, $id and $again"
  say "a new order for customer $customer got id $id, and the same again when the call was repeated with its key"
  value "SELECT order_proc.update_order_status($id, 'paid', 'pending')" >/dev/null
  printf '\n-- SELECT %s\n-- twice, then update_order_status(%s, '\''paid'\''); the order with its items:\n' "$call" "$id"
  value "SELECT jsonb_pretty(to_jsonb(order_proc.get_order_with_items($id)))"
}

show_shop() {
  show "SELECT sqlstate, count(*) AS lines, min(line_number) AS first, (array_agg(message ORDER BY line_number))[1] AS example,
  (array_agg(raw_line ORDER BY line_number))[1] AS line
FROM order_store.import_rejects WHERE import_id = 1 GROUP BY sqlstate ORDER BY lines DESC"
  live_order
  show 'SELECT * FROM order_proc.order_counts()'
  show 'SELECT id, customer_id, status, total_amount, customer_name, created_at FROM order_proc.list_orders_paginated(10)'
  show 'SELECT * FROM order_proc.migration_history'
  show 'SELECT * FROM order_proc.explain_fast_path()'
}

how_to_go_on() {
  local become='' stop folder shard folders=("$server")
  [ "$servers" = no ] || for shard in "${shards[@]}"; do folders+=("$work/$shard"); done
  stop=$(for folder in "${folders[@]}"; do printf '            %s\n' "$become$bindir/pg_ctl -D $folder/data stop"; done)
  [ "$(id -u)" != 0 ] || become='runuser -u postgres -- '
  cat <<TEXT

The server is left running; nothing but its socket leads to it.
  connect:  $become$bindir/psql -h $server -p $server_port -U shop shop
            the same with database cluster: four shards
  stop:     ${stop:12}
  remove:   rm -rf $work    (once stopped)
TEXT
}

main() {
  local shard
  servers=no
  case ${1:-} in
    '') ;;
    --servers) servers=yes ;;
    *) die "unknown option $1; there is --servers" ;;
  esac
  readonly servers shards=(shard0 shard1 shard2 shard3)
  cd /
  need_packages g++ make xz-utils libpq-dev "postgresql-$pg_major" "postgresql-server-dev-$pg_major"
  find_postgres
  open_work demo
  use_ccache
  readonly server=$work/server
  for shard in '' "${shards[@]}"; do stop_server "$bindir" "$work/${shard:-server}"; done
  build_and_install
  say "starting a server in $server"
  start_server "$bindir" "$server" max_prepared_transactions=20
  create_shop
  fill_shop
  show_shop
  show_cluster
  how_to_go_on
}

main "$@"
