#!/usr/bin/env bash
# test/pg_upgrade_inside.sh OLD_BINDIR NEW_BINDIR: makes a server with stores at the newest and at the oldest version, upgrades
# it, and compares what pg_dump of the new version writes of them before and after. The extension is installed for both.
# Called by test/pg_upgrade.sh; not as root.
set -euo pipefail

old=$1 new=$2
folder=$(mktemp -d /tmp/pg_upgrade.XXXXXX)
passed=0 failed=0

clean_up() {
  local server
  for server in old new; do
    [ ! -e "$folder/$server/postmaster.pid" ] || "${!server}/pg_ctl" -D "$folder/$server" -m immediate stop >/dev/null 2>&1 || true
  done
  rm -rf "$folder"
}
trap clean_up EXIT

ok() { if [ "$2" = "$3" ]; then passed=$((passed + 1)); echo "ok: $1"; else failed=$((failed + 1)); echo "not ok: $1"; diff <(echo "$2") <(echo "$3") | head -n 20; fi; }
start() { "$1/pg_ctl" -D "$folder/$2" -l "$folder/$2.log" -w -o "-k $folder -c listen_addresses=" start >/dev/null; }
stop() { "$1/pg_ctl" -D "$folder/$2" -w -m fast stop >/dev/null; }
sql() { "$new/psql" -XAtq -v ON_ERROR_STOP=1 -h "$folder" -U postgres -d "$1" -c "$2"; }
# The same pg_dump for both, so that only the servers differ.
picture() { "$new/pg_dump" -h "$folder" -U postgres -n order_store -d "$1" | grep -vE '^--|^$|^\\(un)?restrict |^SET '; }

for server in old new; do
  "${!server}/initdb" -D "$folder/$server" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync >/dev/null
done
start "$old" old
# shellcheck disable=SC2034  # read by its name
oldest=1.0
newest=$(sql template1 "SELECT default_version FROM pg_available_extensions WHERE name = 'order_proc'")
sql template1 'CREATE ROLE shop'
for database in newest oldest; do
  sql template1 "CREATE DATABASE $database"
  sql "$database" "CREATE EXTENSION order_proc VERSION '${!database}'"
  sql "$database" "SELECT order_proc.create_store('shop')"
  sql "$database" "ALTER TABLE order_store.orders ADD COLUMN warehouse text DEFAULT 'north'"
  sql "$database" "CREATE POLICY everybody ON order_store.customers USING (true)"
  sql "$database" "SELECT order_proc.create_customer('Ana ' || i, 'de la Cruz') FROM generate_series(1, 1000) AS i" >/dev/null
  sql "$database" "SELECT order_proc.create_order_with_items(1 + i % 1000, NULL, NULL, '{7,8}', '{1,2}', '{1.50,2.25}', idempotency_key => 'k' || i) FROM generate_series(1, 5000) AS i" >/dev/null
  sql "$database" "SELECT order_proc.update_order_status(id, 'paid') FROM order_store.orders WHERE customer_id <= 100" >/dev/null
  picture "$database" >"$folder/$database.before"
done
version=$(sql newest 'SHOW server_version')
stop "$old" old

cd "$folder"
upgrade=("$new/pg_upgrade" -b "$old" -B "$new" -d "$folder/old" -D "$folder/new" -U postgres -s "$folder")
status=0
"${upgrade[@]}" --check >check.log 2>&1 || { status=$?; cat check.log; }
ok 'pg_upgrade --check' "$status" 0
status=0
"${upgrade[@]}" >upgrade.log 2>&1 || { status=$?; tail -n 30 upgrade.log; }
ok 'pg_upgrade' "$status" 0
start "$new" new
echo "from $version to $(sql template1 'SHOW server_version')"
for database in newest oldest; do
  ok "the store at ${!database}: pg_dump writes the same" "$(cat "$folder/$database.before")" "$(picture "$database")"
  ok "  it has $(wc -l <"$folder/$database.before") lines" "$(($(wc -l <"$folder/$database.before") > 20000))" 1
  ok '  the version is kept' "$(sql "$database" 'SELECT extversion, order_proc.schema_version() FROM pg_extension WHERE extname = '"'order_proc'")" "${!database}|${!database}"
  ok '  an idempotency key is known' "$(sql "$database" "SELECT order_proc.create_order_with_items(8, NULL, NULL, '{7,8}', '{1,2}', '{1.50,2.25}', idempotency_key => 'k7') = (SELECT id FROM order_store.orders WHERE customer_id = 8 ORDER BY id LIMIT 1)")" t
  made=$(sql "$database" "SELECT order_proc.create_order_with_items(1, NULL, NULL, '{7}', '{2}', '{2.50}')")
  ok '  an order is made and read' "$(sql "$database" "SELECT total_amount, json_array_length(items) FROM order_proc.get_order_with_items($made)")" '5.00|1'
done
sql oldest "ALTER EXTENSION order_proc UPDATE TO '1.3'"
sql oldest 'CALL order_proc.backfill_customer_names()' 2>/dev/null
sql oldest 'ALTER EXTENSION order_proc UPDATE'
ok 'the old store goes up to the newest version' "$(sql oldest 'SELECT order_proc.schema_version(), count(*) FROM order_store.customers WHERE last_name IS NOT NULL')" "$newest|1000"
sql oldest "ALTER EXTENSION order_proc UPDATE TO '1.0'"
ok 'and down again' "$(sql oldest "SELECT order_proc.schema_version(), count(*) FROM order_store.customers WHERE name LIKE 'Ana % de la Cruz'")" '1.0|1000'
stop "$new" new
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
