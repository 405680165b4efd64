// A function is described once per session: the text of its remote call and how its values are sent
// and received. A call on one shard goes once more when the connection was found broken at its
// first use in the transaction: nothing of it was there.
#include "routing.hpp"

#include "pg/compat.hpp"
#include "pg/encoding.hpp"
#include "pg/error.hpp"
#include "remote/pipeline.hpp"
#include "slots.hpp"
#include "worker.hpp"

namespace order_proc {

namespace {

void require(const Store& store, const Need& need) {
  const Oid table = store.table(need.table);
  const char* const name = get_rel_name(table);
  if (!pg::caller_may({table, need.privileges, {}, {}}))
    aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, name);
  if (check_enable_rls(table, InvalidOid, true) == RLS_ENABLED)
    ereport(
        ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
        errmsg("row security of the coordinator's table \"%s\" does not reach the shards", name),
        errhint("Let the policies stand on the shards' tables, where the rows are, and "
                "ALTER TABLE order_store.%s DISABLE ROW LEVEL SECURITY; on the coordinator.",
                name));
}

}  // namespace

const Cluster* routed(std::span<const Need> needs) {
  const Store& store = open_store();
  const Cluster& cluster = cluster_of(store);
  if (cluster.role != Role::coordinator) return nullptr;
  require_original(cluster);
  if (!IsInParallelMode()) start_wanted_worker();
  for (const Need& need : needs) require(store, need);
  return &cluster;
}

const remote::Target& shard_of_customer(const Cluster& cluster, int64 customer_id) {
  return shard_of_slot(cluster, slot_of_customer(open_store_for_anyone(), customer_id));
}

const remote::Target& shard_of_order(const Cluster& cluster, int64 order_id) {
  return shard_of_slot(cluster, core::slot_of_order(order_id));
}

struct RemoteCall::Function {
  Oid oid;
  remote::Statement statement;
  int argument_count;
  std::array<Oid, 16> types;
  std::array<FmgrInfo, 16> senders;
  FmgrInfo receiver;
  Oid receiver_parameter;
};

RemoteCall::Function& RemoteCall::describe(Oid oid) {
  static std::array<Function*, 64> known{};
  for (Function* const function : known)
    if (function != nullptr && function->oid == oid) return *function;
  auto* const made =
      static_cast<Function*>(MemoryContextAllocZero(TopMemoryContext, sizeof(Function)));
  Oid* types;
  const Oid result = get_func_signature(oid, &types, &made->argument_count);
  StringInfoData text;
  initStringInfo(&text);
  appendStringInfo(&text, "SELECT order_proc.%s(", get_func_name(oid));
  for (int i = 0; i < made->argument_count; ++i) {
    const auto at = static_cast<std::size_t>(i);
    made->types[at] = types[i];
    appendStringInfo(&text, "%s$%d", i == 0 ? "" : ", ", i + 1);
    Oid sender;
    bool by_reference;
    getTypeBinaryOutputInfo(types[i], &sender, &by_reference);
    fmgr_info_cxt(sender, &made->senders[at], TopMemoryContext);
  }
  appendStringInfoChar(&text, ')');
  made->statement.text = MemoryContextStrdup(TopMemoryContext, text.data);
  Oid receiver;
  getTypeBinaryInputInfo(result, &receiver, &made->receiver_parameter);
  fmgr_info_cxt(receiver, &made->receiver, TopMemoryContext);
  made->oid = oid;
  for (Function*& place : known)
    if (place == nullptr) {
      place = made;
      break;
    }
  return *made;
}

RemoteCall::RemoteCall(FunctionCallInfo fcinfo, remote::Use use)
    : fcinfo_(fcinfo), function_(describe(fcinfo->flinfo->fn_oid)), use_(use), arguments_{} {
  for (int i = 0; i < function_.argument_count; ++i)
    arguments_[static_cast<std::size_t>(i)] = {fcinfo->args[i].value, fcinfo->args[i].isnull};
}

void RemoteCall::set(int argument, pg::Value value) {
  arguments_[static_cast<std::size_t>(argument)] = value;
}

void RemoteCall::send(remote::Connection& connection, bool streaming) {
  std::array<const char*, 16> values{};
  std::array<int, 16> lengths{};
  std::array<int, 16> formats{};
  const auto count = static_cast<std::size_t>(function_.argument_count);
  pg::with_database_encoding([&] {
    for (std::size_t i = 0; i < count; ++i) {
      formats[i] = 1;
      if (arguments_[i].null) continue;
      bytea* const bytes = SendFunctionCall(&function_.senders[i], arguments_[i].datum);
      values[i] = VARDATA(bytes);
      lengths[i] = static_cast<int>(VARSIZE(bytes) - VARHDRSZ);
    }
  });
  remote::begin(connection, use_);
  remote::queue(connection, function_.statement, remote::Step::call,
                {{function_.types.data(), count},
                 {values.data(), count},
                 {lengths.data(), count},
                 {formats.data(), count},
                 1});
  remote::send(connection, streaming);
}

void RemoteCall::start(remote::Connection& connection) {
  send(connection, true);
}

namespace {

/// The one column of a row, received in the current memory context.
pg::Value receive(const PGresult* result, FmgrInfo& receiver, Oid parameter) {
  if (PQgetisnull(result, 0, 0) == 1) return {};
  StringInfoData bytes{PQgetvalue(result, 0, 0), PQgetlength(result, 0, 0),
                       PQgetlength(result, 0, 0), 0};
  pg::Value value;
  pg::with_database_encoding(
      [&] { value = pg::Value(ReceiveFunctionCall(&receiver, &bytes, parameter, -1)); });
  return value;
}

}  // namespace

std::optional<pg::Value> RemoteCall::next_or_error(remote::Connection& connection) {
  while (const PGresult* const result = remote::next_result(connection))
    if (PQntuples(result) > 0)
      return receive(result, function_.receiver, function_.receiver_parameter);
  return std::nullopt;
}

std::optional<pg::Value> RemoteCall::next(remote::Connection& connection) {
  const auto row = next_or_error(connection);
  if (!row) remote::raise_error(connection);
  return row;
}

Datum RemoteCall::run_on(const remote::Target& target) {
  const bool reads = use_ == remote::Use::read;
  remote::Connection* connection = nullptr;
  remote::connect({&target, 1}, {&connection, 1}, reads);
  const bool first = connection->depth == 0;
  send(*connection, false);
  const PGresult* result = remote::next_result(*connection);
  if (result == nullptr && first && connection->lost && connection->error == nullptr) {
    // Broken while it was idle: nothing of this transaction was there.
    remote::close_connection(*connection);
    remote::connect({&target, 1}, {&connection, 1}, reads);
    send(*connection, false);
    result = remote::next_result(*connection);
  }
  pg::Value value;
  if (result != nullptr && PQntuples(result) == 1)
    value = receive(result, function_.receiver, function_.receiver_parameter);
  (void)remote::next_result(*connection);
  remote::raise_error(*connection);
  fcinfo_->isnull = value.null;
  return value.datum;
}

Datum call_on_shard(FunctionCallInfo fcinfo, const remote::Target& target, remote::Use use) {
  if (use == remote::Use::write) {
    PreventCommandIfReadOnly(get_func_name(fcinfo->flinfo->fn_oid));
    PreventCommandIfParallelMode(get_func_name(fcinfo->flinfo->fn_oid));
  }
  return RemoteCall(fcinfo, use).run_on(target);
}

std::span<remote::Connection*> connect_all(const Cluster& cluster, bool reads) {
  const std::span<remote::Connection*> connections{
      static_cast<remote::Connection**>(
          palloc(sizeof(remote::Connection*) * (cluster.shard_count + 1))),
      cluster.shard_count};
  remote::connect(cluster.targets(), connections, reads);
  return connections;
}

Datum sum_over_shards(FunctionCallInfo fcinfo, const Cluster& cluster, remote::Use use) {
  RemoteCall call(fcinfo, use);
  const auto connections = connect_all(cluster, use == remote::Use::read);
  for (remote::Connection* const connection : connections) call.start(*connection);
  int64 sum = 0;
  for (remote::Connection* const connection : connections)
    while (const auto value = call.next(*connection))
      sum += value->null ? 0 : DatumGetInt64(value->datum);
  PG_RETURN_INT64(sum);
}

}  // namespace order_proc
