// Adding shards: what a database must be to become one, who has which slots then.
#include "cluster.hpp"
#include "migration.hpp"
#include "pg/args.hpp"
#include "pg/error.hpp"
#include "pg/foreign.hpp"
#include "pg/srf.hpp"
#include "pg/user.hpp"
#include "remote/row_query.hpp"
#include "remote/transaction.hpp"
#include "routing.hpp"
#include "shard_locale.hpp"
#include "slots.hpp"

extern "C" {
#include "access/xlog.h"
}

namespace order_proc {

namespace {

constexpr std::size_t bitmap_size = core::slot_count / 8;
using Bitmap = std::array<uint8, bitmap_size>;

// --- membership, on a shard and on the coordinator --------------------------------------------

/// From layout 1.8 on: which database a coordinator is, and the secret of its receipts.
pg::Statement bind_coordinator{
    "UPDATE order_store.cluster AS c SET system_identifier = $1, database_oid = $2, secret = "
    "COALESCE(c.secret, pg_catalog.uuid_send(pg_catalog.gen_random_uuid()) "
    "OPERATOR(pg_catalog.||) pg_catalog.uuid_send(pg_catalog.gen_random_uuid()))",
    INT8OID, OIDOID};
pg::Statement put_identity{
    "INSERT INTO order_store.cluster (coordinator_id, shard_id, owned_slots) VALUES ($1, $2, $3) "
    "ON CONFLICT (singleton) DO UPDATE SET owned_slots = EXCLUDED.owned_slots",
    INT8OID, INT4OID, BYTEAOID};

void become_member(const Store& store, int64 coordinator_id, pg::Value shard_id, Datum bits) {
  require_one_owner(store);
  const Oid owner = store.owner;
  pg::with_spi([&] {
    pg::as_store_owner(owner, [&] {
      put_identity.run(0, {pg::Value(Int64GetDatum(coordinator_id)), shard_id, pg::Value(bits)});
      if (shard_id.null && store.layout.has_receipts())
        bind_coordinator.run(0, {pg::Value(UInt64GetDatum(GetSystemIdentifier())),
                                 pg::Value(ObjectIdGetDatum(MyDatabaseId))});
    });
    attach_triggers(core::shards_since, owner);
  });
  invalidate_store();
  CommandCounterIncrement();
}

Datum bytea_of(const Bitmap& bits) {
  auto* const value = static_cast<bytea*>(palloc(VARHDRSZ + bits.size()));
  SET_VARSIZE(value, VARHDRSZ + bits.size());
  std::copy(bits.begin(), bits.end(), reinterpret_cast<uint8*>(VARDATA(value)));
  return PointerGetDatum(value);
}

// --- adding a shard ------------------------------------------------------------------------------

/// What a database tells of itself; texts as they came, in the caller's memory.
struct Description {
  const char* version;
  const char* layout;
  const char* placement;
  const char* coordinator_id;  ///< null: of no cluster
  bool has_customers;
  const char* encoding;
  int max_prepared_transactions;
  const char* system_identifier;
  const char* database;
  const char* server_version;
  double clock;
  int64 last_customer_id;
};

constexpr const char* extension_query =
    "SELECT e.extversion, pg_catalog.to_regclass('order_store.cluster') IS NOT NULL "
    "FROM pg_catalog.pg_extension AS e WHERE e.extname OPERATOR(pg_catalog.=) 'order_proc'";
constexpr const char* describe_query =
    "SELECT s.layout, s.placement, (SELECT c.coordinator_id::pg_catalog.text FROM "
    "order_store.cluster AS c), "
    "EXISTS (SELECT FROM order_store.customers), "
    "pg_catalog.current_setting('server_encoding'), "
    "pg_catalog.current_setting('max_prepared_transactions'), "
    "(SELECT i.system_identifier FROM pg_catalog.pg_control_system() AS i)::pg_catalog.text, "
    "(SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname OPERATOR(pg_catalog.=) "
    "pg_catalog.current_database())::pg_catalog.text, "
    "pg_catalog.current_setting('server_version_num'), "
    "EXTRACT(epoch FROM pg_catalog.clock_timestamp()), "
    "(SELECT q.last_value FROM order_store.customers_id_seq AS q) "
    "FROM order_store.store AS s";

[[noreturn]] void unfit(const char* server, const char* why, const char* hint) {
  ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
          errmsg("server \"%s\" cannot become a shard: %s", server, why), errhint("%s", hint));
}

const char* text_at(const PGresult* result, int column) {
  return pstrdup(remote::cell(result, 0, column));
}

Description describe(remote::Connection& connection, const char* server) {
  Description it{};
  const PGresult* result = remote::ask_row(connection, extension_query);
  if (PQntuples(result) == 0)
    unfit(server, "it does not have the extension", "CREATE EXTENSION order_proc; there.");
  it.version = text_at(result, 0);
  const bool has_store = *remote::cell(result, 0, 1) == 't';
  remote::end_row(connection);
  const char* const ours = core::layouts[extension_layout()].data();
  if (std::string_view(it.version) != ours)
    unfit(server, psprintf("its extension has version %s, ours %s", it.version, ours),
          psprintf("ALTER EXTENSION order_proc UPDATE TO '%s'; there.", ours));
  if (!has_store)
    unfit(server, "it has no store of this version",
          "SELECT order_proc.create_store(); or order_proc.migrate_store(); there.");
  result = remote::ask_row(connection, describe_query);
  it.layout = text_at(result, 0);
  it.placement = text_at(result, 1);
  if (PQgetisnull(result, 0, 2) == 0) it.coordinator_id = text_at(result, 2);
  it.has_customers = *remote::cell(result, 0, 3) == 't';
  it.encoding = text_at(result, 4);
  it.max_prepared_transactions = static_cast<int>(strtol(remote::cell(result, 0, 5), nullptr, 10));
  it.system_identifier = text_at(result, 6);
  it.database = text_at(result, 7);
  it.server_version = text_at(result, 8);
  it.clock = strtod(remote::cell(result, 0, 9), nullptr);
  it.last_customer_id = strtoll(remote::cell(result, 0, 10), nullptr, 10);
  remote::end_row(connection);
  return it;
}

bool is_here(const Description& it) {
  const auto own = static_cast<int64>(GetSystemIdentifier());
  return std::string_view(psprintf(INT64_FORMAT, own)) == it.system_identifier &&
         std::string_view(psprintf("%u", MyDatabaseId)) == it.database;
}

double seconds_now() {
  return static_cast<double>(GetCurrentTimestamp()) / 1e6 +
         static_cast<double>(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * 86400;
}

void require_fit(const Store& store, const Description& it, const char* server, bool first) {
  constexpr double most_skew = 5;
  const char* const layout = core::layouts[store.layout.index].data();
  const std::string_view placement = core::name_of(store.placement);
  if (is_here(it)) unfit(server, "it is this database", "Name another database.");
  if (it.coordinator_id != nullptr)
    unfit(server, psprintf("it belongs to cluster %s", it.coordinator_id),
          "TABLE order_store.cluster; there.");
  if (std::string_view(it.layout) != layout)
    unfit(server, psprintf("its store has layout %s, ours %s", it.layout, layout),
          "SELECT order_proc.migrate_store(); there.");
  if (placement != it.placement)
    unfit(server, psprintf("its placement is %s, ours %s", it.placement, placement.data()),
          "Make its store with the same placement.");
  if (std::string_view(it.encoding) != GetDatabaseEncodingName())
    unfit(server, psprintf("its encoding is %s, ours %s", it.encoding, GetDatabaseEncodingName()),
          "Make its database with the same encoding.");
  if (strtol(it.server_version, nullptr, 10) / 10000 != PG_VERSION_NUM / 10000)
    unfit(server, psprintf("its server has version %s", it.server_version),
          "Use servers of one major version.");
  if (it.max_prepared_transactions == 0)
    unfit(server, "its max_prepared_transactions is 0",
          "ALTER SYSTEM SET max_prepared_transactions = 100; and restart it.");
  if (std::abs(it.clock - seconds_now()) > most_skew)
    unfit(server, psprintf("its clock is %.0f s off", it.clock - seconds_now()),
          "Keep the clocks of all servers in step (NTP).");
  if (it.has_customers && !first)
    unfit(server, "it holds customers already",
          "The first shard may hold data, later ones must be empty.");
}

/// Asked of those only that have our columns and functions.
void require_same_order(remote::Connection& connection, const Store& store, const char* server) {
  const Misfit locale = compare_locale(connection);
  if (locale.why != nullptr) unfit(server, locale.why, locale.hint);
  if (store.placement != core::Placement::hash) return;
  check_slot_vectors();
  const Misfit slots = compare_slots(connection);
  if (slots.why != nullptr) unfit(server, slots.why, slots.hint);
}

pg::Statement add_shard_row{"INSERT INTO order_store.shards (id, server) VALUES ($1, $2)", INT4OID,
                            NAMEOID};
pg::Statement deal_slots{
    "INSERT INTO order_store.slot_map (slot, shard_id) SELECT s, CASE WHEN $1 THEN s "
    "OPERATOR(pg_catalog.%) $2 ELSE 0 END FROM pg_catalog.generate_series(0, 4095) AS s "
    "ON CONFLICT (slot) DO UPDATE SET shard_id = EXCLUDED.shard_id",
    BOOLOID, INT4OID};
pg::Statement any_customer{"SELECT 1 FROM order_store.customers AS c LIMIT 1"};

bool holds_customers(const Store& store) {
  return pg::with_spi([&] {
    return pg::as_user(table_owner(store.table(Table::customers)),
                       [&] { return any_customer.run(0, {}) > 0; });
  });
}

bool any_shard_holds_customers(std::span<remote::Connection* const> connections) {
  for (remote::Connection* const connection : connections)
    remote::start_row(*connection, remote::Use::transaction,
                      "SELECT EXISTS (SELECT FROM order_store.customers)", {});
  bool any = false;
  for (remote::Connection* const connection : connections) {
    any |= *remote::cell(remote::take_row(*connection), 0, 0) == 't';
    remote::end_row(*connection);
  }
  return any;
}

/// Begins to tell a shard who it is and which slots it has.
void tell_membership(remote::Connection& connection, int64 coordinator_id, int shard_id,
                     const Bitmap& bits) {
  StringInfoData hex;
  initStringInfo(&hex);
  appendStringInfoString(&hex, "\\x");
  for (const uint8 byte : bits) appendStringInfo(&hex, "%02x", byte);
  const std::array<const char*, 3> values{psprintf(INT64_FORMAT, coordinator_id),
                                          psprintf("%d", shard_id), hex.data};
  remote::start_row(connection, remote::Use::write, "SELECT order_proc.set_membership($1, $2, $3)",
                    values);
}

void hear_of_membership(remote::Connection& connection) {
  (void)remote::take_row(connection);
  remote::end_row(connection);
}

Bitmap dealt(int shard_id, int count) {
  Bitmap bits{};
  for (int slot = 0; slot < core::slot_count; ++slot)
    if (slot % count == shard_id)
      bits[static_cast<std::size_t>(slot / 8)] |= static_cast<uint8>(1 << (slot % 8));
  return bits;
}

Oid server_to_add(const Store& store, const Cluster& cluster, const char* name) {
  const Oid server = get_foreign_server_oid(name, true);
  if (!OidIsValid(server))
    ereport(
        ERROR, errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("server \"%s\" does not exist", name),
        errhint("CREATE SERVER %s FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '...', dbname "
                "'...');",
                quote_identifier(name)));
  const ForeignDataWrapper* const wrapper = GetForeignDataWrapper(GetForeignServer(server)->fdwid);
  if (std::string_view(wrapper->fdwname) != "postgres_fdw")
    ereport(ERROR, errcode(ERRCODE_WRONG_OBJECT_TYPE),
            errmsg("server \"%s\" is not one of postgres_fdw", name),
            errdetail("Its foreign data wrapper is \"%s\".", wrapper->fdwname),
            errhint("CREATE SERVER ... FOREIGN DATA WRAPPER postgres_fdw;"));
  for (const remote::Target& shard : cluster.targets())
    if (shard.server == server)
      ereport(ERROR, errcode(ERRCODE_DUPLICATE_OBJECT),
              errmsg("server \"%s\" is shard %d already", name, shard.shard_id),
              errhint("SELECT * FROM order_proc.shard_status;"));
  if (cluster.shard_count == most_shards)
    ereport(ERROR, errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
            errmsg("a cluster has at most %zu shards", most_shards));
  if (holds_customers(store))
    ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
            errmsg("the coordinator's own store holds customers"),
            errhint("Make a new database the coordinator, and this one its first shard."));
  return server;
}

/// The coordinator's own part: who it is, the shard, the map.
void note_shard(const Store& store, int64 coordinator_id, int shard_id, Datum server_name,
                bool deal, bool all_to_first) {
  if (shard_id == 0) become_member(store, coordinator_id, {}, bytea_of({}));
  pg::with_spi([&] {
    pg::as_store_owner(store.owner, [&] {
      add_shard_row.run(0, {pg::Value(Int32GetDatum(shard_id)), pg::Value(server_name)});
      if (deal || all_to_first)
        deal_slots.run(0, {pg::Value(BoolGetDatum(deal)), pg::Value(Int32GetDatum(shard_id + 1))});
    });
  });
  invalidate_store();
  CommandCounterIncrement();
}

/// New customers must not get ids of those that the first shard brings along.
void lift_customer_ids(const Store& store, int64 last) {
  pg::as_user(table_owner(store.customers_sequence), [&] {
    (void)DirectFunctionCall2(setval_oid, ObjectIdGetDatum(store.customers_sequence),
                              Int64GetDatum(std::max<int64>(last, 1)));
  });
}

}  // namespace

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_add_shard);
Datum order_proc_add_shard(PG_FUNCTION_ARGS) {
  const Datum name = pg::Args(fcinfo).datum(0, "server");
  PreventCommandIfReadOnly("add_shard");
  PreventCommandIfParallelMode("add_shard");
  require_store_owner(open_store(), "add shards");
  LockRelationOid(open_store().table(Table::shards), ShareRowExclusiveLock);
  const Store store = open_store();
  const Cluster cluster = cluster_of(store);
  require_original(cluster);
  if (cluster.role == Role::shard)
    ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
            errmsg("this database is shard %d of a cluster", cluster.shard_id),
            errhint("Call add_shard on the coordinator."));
  const char* const server_name = NameStr(*DatumGetName(name));
  const Oid server = server_to_add(store, cluster, server_name);
  const int shard_id = static_cast<int>(cluster.shard_count);
  const bool first = shard_id == 0;
  const int64 coordinator_id =
      cluster.coordinator_id != 0 ? cluster.coordinator_id : new_coordinator_id();
  const remote::Target target{shard_id, server, 0};
  remote::Connection* joining = nullptr;
  remote::connect({&target, 1}, {&joining, 1});
  const Description it = describe(*joining, server_name);
  require_fit(store, it, server_name, first);
  require_same_order(*joining, store, server_name);
  const auto others = connect_all(cluster, false);
  const bool all_to_first = first && it.has_customers;
  const bool deal = !it.has_customers && !any_shard_holds_customers(others);
  if (deal)
    for (remote::Connection* const other : others)
      tell_membership(*other, coordinator_id, other->shard_id,
                      dealt(other->shard_id, shard_id + 1));
  tell_membership(*joining, coordinator_id, shard_id,
                  deal || all_to_first ? dealt(shard_id, shard_id + 1) : Bitmap{});
  if (deal)
    for (remote::Connection* const other : others) hear_of_membership(*other);
  hear_of_membership(*joining);
  // Its session has not joined the cluster: the next transaction opens another.
  joining->coordinator_id = coordinator_id;
  joining->stale = true;
  note_shard(store, coordinator_id, shard_id, name, deal, all_to_first);
  if (all_to_first) lift_customer_ids(store, it.last_customer_id);
  PG_RETURN_INT32(shard_id);
}

PG_FUNCTION_INFO_V1(order_proc_set_membership);
Datum order_proc_set_membership(PG_FUNCTION_ARGS) {
  const pg::Args args(fcinfo);
  const int64 coordinator_id = args.get_int64(0, "coordinator_id");
  const pg::Value shard_id(fcinfo->args[1].value, args.null(1));
  const pg::Text bits = args.get_text(2, "owned_slots");
  if (bits.view().size() != bitmap_size)
    ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
            errmsg("owned_slots has %zu bytes, not %zu", bits.view().size(), bitmap_size),
            errhint("SELECT order_proc.add_shard('server'); on the coordinator calls this."));
  const Store store = open_store();
  require_store_owner(store, "join a cluster");
  const Cluster& here = cluster_of(store);
  if (here.coordinator_id != 0 && here.coordinator_id != coordinator_id)
    ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
            errmsg("this database belongs to cluster " INT64_FORMAT, here.coordinator_id),
            errhint("TABLE order_store.cluster;"));
  become_member(store, coordinator_id, shard_id, bits.datum());
  PG_RETURN_VOID();
}

}  // extern "C"

}  // namespace order_proc
