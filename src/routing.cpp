// A function is described once per session: the text of its remote call and how its values are sent
// and received. A call goes once more when the connection was found broken at its first use in the
// transaction, before a row came: nothing of it was there.
#include "routing.hpp"

#include "consistent_cut.hpp"
#include "failpoints.hpp"
#include "moved_slots.hpp"
#include "pg/compat.hpp"
#include "pg/encoding.hpp"
#include "pg/error.hpp"
#include "remote/pipeline.hpp"
#include "slots.hpp"
#include "worker.hpp"

namespace order_proc {

namespace {

void require_sequence(const Store& store, const char* name) {
  const Oid sequence = get_relname_relid(name, store.schema);
  if (OidIsValid(sequence) &&
      pg_class_aclcheck(sequence, GetUserId(), ACL_USAGE | ACL_UPDATE) != ACLCHECK_OK)
    aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_SEQUENCE, name);
}

/// The numbers of columns, of which the store's layout may not have all (yet).
struct Numbers {
  Numbers(Oid table, Need::Columns names) {
    for (const char* name : names) numbers[count++] = get_attnum(table, name);
  }
  std::span<const AttrNumber> span() const { return {numbers.data(), count}; }

  std::array<AttrNumber, 9> numbers;
  std::size_t count = 0;
};

/// Whether the executor would let the caller; columns count when he has no right on the table.
bool caller_may(Oid table, const Need& need) {
  if (pg_class_aclmask(table, GetUserId(), need.privileges, ACLMASK_ALL) == need.privileges)
    return pg::caller_may({table, need.privileges, {}, {}});
  return pg::caller_may({table, need.privileges, Numbers(table, need.selected).span(),
                         Numbers(table, need.inserted).span(),
                         Numbers(table, need.updated).span()});
}

void require(const Store& store, const Need& need) {
  const Oid table = store.table(need.table);
  const char* const name = get_rel_name(table);
  if (need.privileges != ACL_NO_RIGHTS && !caller_may(table, need))
    aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, name);
  if (need.sequence != nullptr) require_sequence(store, need.sequence);
  if (need.privileges == ACL_NO_RIGHTS) return;
  if (check_enable_rls(table, InvalidOid, true) == RLS_ENABLED)
    ereport(
        ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
        errmsg("row security of the coordinator's table \"%s\" does not reach the shards", name),
        errhint("Let the policies stand on the shards' tables, where the rows are, and "
                "ALTER TABLE order_store.%s DISABLE ROW LEVEL SECURITY; on the coordinator.",
                name));
}

/// The cluster, when it is this database's to call its shards.
const Cluster* of_coordinator(const Cluster& cluster) {
  if (cluster.role != Role::coordinator) return nullptr;
  require_original(cluster);
  if (!IsInParallelMode()) start_wanted_worker();
  return &cluster;
}

}  // namespace

const Cluster* routed(std::span<const Need> needs) {
  TableSet tables{Table::cluster};
  for (const Need& need : needs) tables.add(need.table);
  const Store& store = open_tables(tables);
  const Cluster* const cluster = of_coordinator(cluster_of(store));
  if (cluster != nullptr)
    for (const Need& need : needs) require(store, need);
  return cluster;
}

const Cluster* routed_to_all() {
  return of_coordinator(cluster_without_slots(open_tables({Table::cluster})));
}

const remote::Target& shard_of_customer(const Cluster& cluster, int64 customer_id) {
  return shard_of_slot(cluster, slot_of_customer(open_store_for_anyone(), customer_id));
}

const remote::Target& shard_of_order(const Cluster& cluster, int64 order_id) {
  return shard_of_slot(cluster, core::slot_of_order(order_id));
}

Route route_of_customer(const Cluster& cluster, int64 customer_id) {
  return {cluster, slot_of_customer(open_store_for_anyone(), customer_id)};
}

Route route_of_order(const Cluster& cluster, int64 order_id) {
  return {cluster, core::slot_of_order(order_id)};
}

/// What was sent to a shard, to be sent once more.
struct RemoteCall::Sent {
  Sent* next;
  remote::Connection* connection;
  bool streaming;
  bool may_go_again;
  std::array<const char*, 16> values;
  std::array<int, 16> lengths;
};

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

void RemoteCall::end_with(void (*queue)(remote::Connection&)) {
  queue_end_ = queue;
}

void RemoteCall::send(remote::Connection& connection, bool streaming) {
  auto* const sent = static_cast<Sent*>(palloc(sizeof(Sent)));
  // Another session would not have the snapshot of a cut.
  const bool may_go_again = connection.depth == 0 && !connection.left_open && queue_end_ == nullptr;
  *sent = {sent_, &connection, streaming, may_go_again, {}, {}};
  const auto count = static_cast<std::size_t>(function_.argument_count);
  pg::with_database_encoding([&] {
    for (std::size_t i = 0; i < count; ++i) {
      if (arguments_[i].null) continue;
      bytea* const bytes = SendFunctionCall(&function_.senders[i], arguments_[i].datum);
      sent->values[i] = VARDATA(bytes);
      sent->lengths[i] = static_cast<int>(VARSIZE(bytes) - VARHDRSZ);
    }
  });
  sent_ = sent;
  transmit(*sent);
}

void RemoteCall::transmit(const Sent& sent) {
  const auto count = static_cast<std::size_t>(function_.argument_count);
  std::array<int, 16> formats;
  formats.fill(1);
  remote::begin(*sent.connection, use_);
  remote::queue(*sent.connection, function_.statement, remote::Step::call,
                {{function_.types.data(), count},
                 {sent.values.data(), count},
                 {sent.lengths.data(), count},
                 {formats.data(), count},
                 1});
  if (queue_end_ != nullptr) queue_end_(*sent.connection);
  // One that a cut began for this call.
  if (sent.connection->left_open) remote::end_snapshot(*sent.connection);
  remote::send(*sent.connection, sent.streaming);
}

bool RemoteCall::send_again(const remote::Connection& connection) {
  Sent* sent = sent_;
  while (sent != nullptr && sent->connection != &connection) sent = sent->next;
  if (sent == nullptr || !sent->may_go_again || !remote::session_gone(connection)) return false;
  sent->may_go_again = false;
  (void)remote::reopen(*sent->connection);
  transmit(*sent);
  return true;
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

std::optional<pg::Value> RemoteCall::next_or_error(remote::Connection& connection,
                                                   remote::Deadline deadline,
                                                   remote::Interrupts interrupts) {
  do {
    while (const PGresult* const result = remote::next_result(connection, interrupts, deadline)) {
      if (PQntuples(result) == 0) continue;
      for (Sent* sent = sent_; sent != nullptr; sent = sent->next)
        if (sent->connection == &connection) sent->may_go_again = false;
      return receive(result, function_.receiver, function_.receiver_parameter);
    }
  } while (send_again(connection));
  return std::nullopt;
}

std::optional<pg::Value> RemoteCall::next(remote::Connection& connection) {
  const auto row = next_or_error(connection);
  if (!row) remote::raise_error(connection);
  return row;
}

std::optional<pg::Value> RemoteCall::run_on(remote::Connection& connection,
                                            FunctionCallInfo caller) {
  const bool commits =
      use_ == remote::Use::write && remote::commit_with_call::possible(caller, connection);
  end_with(commits ? remote::commit_with_call::queue : nullptr);
  send(connection, false);
  if (!commits) {
    const auto value = next_or_error(connection);
    if (value) (void)remote::next_result(connection);
    return value;
  }
  ORDER_PROC_FAILPOINT("one_sent_with_call");
  auto value = next_or_error(connection, remote::never, remote::Interrupts::leave);
  if (!remote::commit_with_call::ended(connection)) return std::nullopt;
  // An interrupt that came too late.
  if (!value) value = receive(connection.result, function_.receiver, function_.receiver_parameter);
  return value;
}

namespace {

/// Whether the call is to be tried again: the shard does not have the slot (any more).
bool moved(remote::Connection& connection, int depth, remote::Deadline deadline) {
  if (!slot_was_away(connection) || remote::passed(deadline) ||
      !remote::undo_call(connection, depth))
    return false;
  look_again();
  return true;
}

}  // namespace

Datum RemoteCall::run(const Route& route) {
  const remote::Deadline deadline = remote::after_milliseconds(look_for_slot);
  for (;;) {
    const remote::Target target = shard_of_slot(route.cluster, route.slot);
    remote::Connection* connection = nullptr;
    remote::connect({&target, 1}, {&connection, 1}, use_ == remote::Use::read);
    const int depth = connection->depth;
    const auto value = run_on(*connection, fcinfo_);
    if (!value && moved(*connection, depth, deadline)) continue;
    remote::raise_error(*connection);
    fcinfo_->isnull = !value || value->null;
    return value ? value->datum : 0;
  }
}

Datum call_on_shard(FunctionCallInfo fcinfo, const Route& route, remote::Use use) {
  if (use == remote::Use::write) {
    PreventCommandIfReadOnly(get_func_name(fcinfo->flinfo->fn_oid));
    PreventCommandIfParallelMode(get_func_name(fcinfo->flinfo->fn_oid));
  }
  return RemoteCall(fcinfo, use).run(route);
}

std::span<remote::Connection*> connect_all(const Cluster& cluster, bool reads) {
  const std::span<remote::Connection*> connections{
      static_cast<remote::Connection**>(
          palloc(sizeof(remote::Connection*) * (cluster.shard_count + 1))),
      cluster.shard_count};
  remote::connect(cluster.targets(), connections, reads && reads_may_lag());
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
