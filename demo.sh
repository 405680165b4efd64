#!/usr/bin/env bash
# demo.sh: installs what is missing, builds and installs the extension, and shows it at work on real orders.
#
# Leaves a throw-away server running to look around in; the next demo.sh stops it and starts anew. The orders are
# those of $ORDER_PROC_DATA or ../shared/data/online_retail (order_lines.csv.xz, customers.csv.xz, expected.json) when
# they are there, otherwise generated ones. Called by root it installs into the system's PostgreSQL; called by anybody
# else into a private copy of it.
set -euo pipefail
# shellcheck source=test/lib.sh
source "$(dirname "$0")/test/lib.sh"

readonly data=${ORDER_PROC_DATA:-$top/../shared/data/online_retail}
readonly batch=2000      # orders a transaction, and a line of progress
readonly generated=5000  # orders, when there are no real ones

psql() { as_user "$bindir/psql" -X -q -v ON_ERROR_STOP=1 -h "$server" -p "$server_port" "$@"; }
# The application is no superuser. It owns the store, and that is all it needs.
shop() { psql -U shop -d shop "$@"; }
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

# The rest of both ways to fill the shop: calls create_order_with_items once for every row of new_order
# (n, customer_id, status, product_ids, quantities, prices), a transaction for every $batch of them.
create_orders() {
  cat <<SQL
SELECT count(*) AS total FROM new_order \gset
CREATE UNIQUE INDEX ON new_order (n);
ANALYZE new_order;
SELECT format(
  \$\$SELECT max(n) FILTER (WHERE id IS NOT NULL) || ' of %s orders'
  FROM (SELECT n, order_proc.create_order_with_items(customer_id, status, NULL, product_ids, quantities, prices) AS id
        FROM new_order WHERE n > %s AND n <= %s + $batch) AS made\$\$, :total, start, start)
FROM generate_series(0, :total - 1, $batch) AS start \gexec
SQL
}

real_customers() {
  cat <<'SQL'
CREATE TEMP TABLE new_customer (id bigint, name text, email text);
COPY new_customer FROM stdin WITH (FORMAT csv, HEADER);
SQL
  xzcat "$data/customers.csv.xz"
  cat <<'SQL'
\.
SELECT count(order_proc.create_customer(split_part(name, ' ', 1), nullif(substr(name, strpos(name || ' ', ' ') + 1), ''), email, id))
       || ' customers'
FROM new_customer;
SQL
}

# A line is clean when it has a customer, a quantity above 0 and a price of 0 or more; the others are cancellations,
# write-offs and the like. Items stand in the order of their lines, orders in the order of their first line.
real_orders() {
  cat <<'SQL'
CREATE TEMP TABLE line (
  n bigint GENERATED ALWAYS AS IDENTITY,
  order_ref text, customer_id text, product_id text, quantity text, price text, created_at text, status text);
COPY line (order_ref, customer_id, product_id, quantity, price, created_at, status) FROM stdin WITH (FORMAT csv, HEADER);
SQL
  xzcat "$data/order_lines.csv.xz"
  cat <<'SQL'
\.
SELECT count(*) || ' order lines read' FROM line;
CREATE TEMP TABLE new_order AS
SELECT row_number() OVER (ORDER BY min(n)) AS n, customer_id::bigint AS customer_id, min(status) AS status,
       array_agg(product_id::bigint ORDER BY n) AS product_ids,
       array_agg(quantity::int ORDER BY n) AS quantities,
       array_agg(price::numeric ORDER BY n) AS prices
FROM line
WHERE customer_id IS NOT NULL AND quantity::int > 0 AND price::numeric >= 0
GROUP BY order_ref, customer_id;
SQL
  create_orders
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

generated_orders() {
  cat <<SQL
SELECT setseed(0.5) \gset
CREATE TEMP TABLE new_order AS
SELECT n, customer_id, (ARRAY['pending','paid','processing','shipped','delivered','cancelled'])[1 + floor(random() * 6)::int] AS status,
       array_agg(1 + floor(random() * 1000)::bigint) AS product_ids,
       array_agg(1 + floor(random() * 5)::int) AS quantities,
       array_agg(round((1 + random() * 99)::numeric, 2)) AS prices
FROM (SELECT row_number() OVER () AS n, c.id AS customer_id
      FROM order_store.customers AS c, generate_series(1, $generated / 500)) AS one,
     generate_series(1, 1 + n % 8)
GROUP BY n, customer_id;
SQL
  create_orders
}

fill_shop() {
  local kind=generated began
  [ -r "$data/order_lines.csv.xz" ] && kind=real
  case $kind in
    real) say "filling the shop with the real orders in $(cd "$data" && pwd)" ;;
    generated) say "no order lines in $data: filling the shop with $generated generated orders" ;;
  esac
  "${kind}_customers" | shop -At | narrate
  began=$SECONDS
  "${kind}_orders" | shop -At | narrate
  say "$(value "SELECT to_char((SELECT count(*) FROM order_store.orders), 'FM999,999,999') || ' orders with '
    || to_char((SELECT count(*) FROM order_store.order_items), 'FM999,999,999') || ' items'") in $((SECONDS - began)) s"
  [ "$kind" = generated ] || compare_with_expected
}

expected() { sed -n "s/^ *\"$1\": *\"\{0,1\}\([0-9.]*\)\"\{0,1\},\{0,1\}$/\1/p" "$data/expected.json"; }

# The files' own account of what a correct import gives.
compare_with_expected() {
  local wanted found
  wanted="$(expected orders_loaded_skip_row) orders, $(expected accepted_lines) items, total $(expected total_amount_skip_row)"
  found=$(value "SELECT format('%s orders, %s items, total %s', (SELECT count(*) FROM order_store.orders),
    (SELECT count(*) FROM order_store.order_items), (SELECT sum(total_amount) FROM order_store.orders))")
  [ "$found" = "$wanted" ] || die "made $found, but expected.json says $wanted"
  say "as expected.json says: $found"
}

# An order of today, from the first call on.
live_order() {
  local customer id again call
  customer=$(value 'SELECT min(id) FROM order_store.customers')
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
  live_order
  show 'SELECT * FROM order_proc.order_counts()'
  show 'SELECT id, customer_id, status, total_amount, customer_name, created_at FROM order_proc.list_orders_paginated(10)'
  show 'SELECT * FROM order_proc.migration_history'
  show 'SELECT * FROM order_proc.explain_fast_path()'
}

how_to_go_on() {
  local become=''
  [ "$(id -u)" != 0 ] || become='runuser -u postgres -- '
  cat <<TEXT

The server is left running; nothing but its socket leads to it.
  connect:  $become$bindir/psql -h $server -p $server_port -U shop shop
  stop:     $become$bindir/pg_ctl -D $server/data stop
  remove:   rm -rf $work    (once stopped)
TEXT
}

main() {
  cd /
  need_packages g++ make xz-utils "postgresql-$pg_major" "postgresql-server-dev-$pg_major"
  find_postgres
  open_work demo
  use_ccache
  readonly server=$work/server
  stop_server "$bindir" "$server"
  build_and_install
  say "starting a server in $server"
  start_server "$bindir" "$server"
  create_shop
  fill_shop
  show_shop
  how_to_go_on
}

main "$@"
