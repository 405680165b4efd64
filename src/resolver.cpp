// A round: read the decisions, ask the shards, tell the fates of what is prepared, end it, and
// forget what is done. The sequence of looks matters: a transaction first leaves its lock, then
// nothing of it changes any more, so what is looked up later is final.
//
// Everything is idempotent; a round that raises in the middle is repeated by the next.
#include "resolver.hpp"

#include "mappings.hpp"
#include "pg/args.hpp"
#include "pg/error.hpp"
#include "pg/locks.hpp"
#include "pg/replication.hpp"
#include "pg/user.hpp"
#include "receipts.hpp"
#include "remote/pipeline.hpp"
#include "remote/wait.hpp"

extern "C" {
#include "storage/procarray.h"
}

namespace order_proc {

namespace {

pg::Statement all_decisions{
    "SELECT l.gid, l.shard_ids, l.damaged FROM order_store.commit_log AS l ORDER BY l.decided_at "
    "USING OPERATOR(pg_catalog.<) LIMIT 5000"};
pg::Statement which_decisions{
    "SELECT l.gid FROM order_store.commit_log AS l WHERE l.gid OPERATOR(pg_catalog.=) ANY ($1)",
    TEXTARRAYOID};
/// A session that is about to forget one itself has it locked.
pg::Statement forget_decisions{
    "DELETE FROM order_store.commit_log AS l WHERE l.gid OPERATOR(pg_catalog.=) ANY (ARRAY("
    "SELECT k.gid FROM order_store.commit_log AS k WHERE k.gid OPERATOR(pg_catalog.=) ANY ($1) "
    "FOR UPDATE SKIP LOCKED))",
    TEXTARRAYOID};
pg::Statement note_damage{
    "UPDATE order_store.commit_log AS l SET damaged = $2 WHERE l.gid OPERATOR(pg_catalog.=) $1 AND "
    "l.damaged IS DISTINCT FROM $2",
    TEXTOID, INT4ARRAYOID};

constexpr const char* forget_receipts_query =
    "DELETE FROM order_store.receipts AS r WHERE r.gid OPERATOR(pg_catalog.=) ANY "
    "($1::pg_catalog.text[])";

/// A row of the commit log.
struct Decision {
  const char* base;
  bool over;  ///< its transaction has told the shards, or never will
  std::span<const int32> shard_ids;
  bool known_damage;
};

bool text_less(const char* a, const char* b) {
  return strcmp(a, b) < 0;
}

bool contains(std::span<const char* const> sorted, const char* text) {
  return std::binary_search(sorted.begin(), sorted.end(), text, text_less);
}

Datum text_array(std::span<const char* const> texts) {
  auto* const values = static_cast<Datum*>(palloc(sizeof(Datum) * (texts.size() + 1)));
  for (std::size_t i = 0; i < texts.size(); ++i) values[i] = CStringGetTextDatum(texts[i]);
  return PointerGetDatum(
      construct_array(values, static_cast<int>(texts.size()), TEXTOID, -1, false, TYPALIGN_INT));
}

/// Whether the transaction of the base may still decide.
bool base_is_running(const char* base) {
  const auto gid = pg::core_call(core::parse_gid, std::string_view(psprintf("%s_0000", base)));
  return gid && is_running(*gid);
}

std::span<Decision> list_decisions(const Store& store) {
  const MemoryContext memory = CurrentMemoryContext;
  return pg::with_spi([&]() -> std::span<Decision> {
    const uint64 rows = pg::as_user(store.owner, [&] { return all_decisions.run(0, {}); });
    const MemoryContext saved = MemoryContextSwitchTo(memory);
    auto* const list = static_cast<Decision*>(palloc(sizeof(Decision) * (rows + 1)));
    for (uint64 row = 0; row < rows; ++row) {
      ArrayType* const ids = DatumGetArrayTypePCopy(pg::result(row, 1).datum);
      const int count = ArrayGetNItems(ARR_NDIM(ids), ARR_DIMS(ids));
      list[row] = {
          TextDatumGetCString(pg::result(row, 0).datum),
          false,
          {reinterpret_cast<const int32*>(ARR_DATA_PTR(ids)), static_cast<std::size_t>(count)},
          !pg::result(row, 2).null};
      list[row].over = !base_is_running(list[row].base);
    }
    MemoryContextSwitchTo(saved);
    return {list, rows};
  });
}

/// Whether the decisions that can be seen outlive this server.
bool decisions_are_safe() {
  constexpr int longest = 200;
  const XLogRecPtr end = GetXLogInsertRecPtr();
  XLogFlush(end);
  const remote::Deadline deadline = remote::after_milliseconds(longest);
  while (pg::lacks_standby(end, SYNCHRONOUS_COMMIT_ON)) {
    if (remote::passed(deadline)) return false;
    (void)remote::wait_ready({}, remote::after_milliseconds(5), remote::Interrupts::serve);
  }
  return true;
}

// --- ending what is prepared
// -----------------------------------------------------------------------

/// What one connection has to end.
struct Batch {
  remote::Connection* connection;
  const char* owner;  ///< null: whatever the view's own connection may end
  const ShardView* view;
  std::span<Orphan*> orphans;
  std::size_t at;    ///< the first that is not sent
  std::size_t sent;  ///< how many are in flight
};

/// As many fit into a pipeline.
constexpr std::size_t most_sent = 20;

bool to_be_settled(const Orphan& orphan) {
  return !orphan.settled &&
         (orphan.fate == Orphan::Fate::commit || orphan.fate == Orphan::Fate::roll_back);
}

const char* command_for(const Orphan& orphan) {
  return psprintf("%s PREPARED %s", orphan.fate == Orphan::Fate::commit ? "COMMIT" : "ROLLBACK",
                  quote_literal_cstr(orphan.gid));
}

const char* action_of(const Orphan& orphan) {
  return orphan.fate == Orphan::Fate::commit ? "committed" : "rolled back";
}

void report(const pg::ResultSet* results, const char* gid, int shard_id, const char* action) {
  if (results == nullptr) {
    ereport(LOG, errmsg("transaction \"%s\" on shard %d: %s", gid, shard_id, action));
    return;
  }
  results->add({pg::Value(CStringGetTextDatum(gid)), pg::Value(Int32GetDatum(shard_id)),
                pg::Value(CStringGetTextDatum(action))});
}

/// The connection of somebody else's mapping that leads to the role; null without one.
remote::Connection* connect_as(const Store& store, const ShardView& view, const char* owner) {
  for (const Mapping& mapping : mappings_of(view.target.server, store.owner)) {
    if (std::string_view(mapping.remote_user) != owner) continue;
    remote::Target target = view.target;
    target.mapped = true;
    target.user = mapping.user;
    remote::Connection* connection = nullptr;
    const char* reason = nullptr;
    remote::connect({&target, 1}, {&connection, 1}, false, {&reason, 1});
    if (connection != nullptr) return connection;
  }
  return nullptr;
}

bool belongs_to(const Orphan& orphan, const char* owner) {
  if (owner == nullptr) return orphan.mine;
  return !orphan.mine && std::string_view(orphan.owner) == owner;
}

/// Adds a batch for the orphans of the view that belong to the owner.
List* add_batch(List* batches, const Store& store, const ShardView& view, const char* owner) {
  auto** const orphans = static_cast<Orphan**>(palloc(sizeof(Orphan*) * (view.orphans.size() + 1)));
  std::size_t count = 0;
  for (Orphan& orphan : view.orphans)
    if (to_be_settled(orphan) && belongs_to(orphan, owner)) orphans[count++] = &orphan;
  if (count == 0) return batches;
  auto* const batch = static_cast<Batch*>(palloc0(sizeof(Batch)));
  *batch = {owner == nullptr ? view.connection : connect_as(store, view, owner),
            owner,
            &view,
            {orphans, count},
            0,
            0};
  return lappend(batches, batch);
}

bool has_batch(const List* batches, const ShardView& view, const char* owner) {
  ListCell* cell;
  foreach (cell, batches) {
    const auto* const batch = static_cast<const Batch*>(lfirst(cell));
    if (batch->view == &view && batch->owner != nullptr && std::string_view(batch->owner) == owner)
      return true;
  }
  return false;
}

List* make_batches(const Store& store, std::span<ShardView> views) {
  List* batches = NIL;
  for (const ShardView& view : views) {
    if (view.connection == nullptr) continue;
    batches = add_batch(batches, store, view, nullptr);
    for (const Orphan& orphan : view.orphans)
      if (to_be_settled(orphan) && !orphan.mine && !has_batch(batches, view, orphan.owner))
        batches = add_batch(batches, store, view, orphan.owner);
  }
  return batches;
}

/// Each command is a transaction of its own.
void send_some(Batch& batch) {
  batch.sent = std::min(most_sent, batch.orphans.size() - batch.at);
  for (std::size_t i = 0; i < batch.sent; ++i) {
    if (i > 0) remote::queue_sync(*batch.connection);
    remote::queue_text(*batch.connection, command_for(*batch.orphans[batch.at + i]),
                       remote::Step::call, {});
  }
  remote::send(*batch.connection);
}

/// What became of them; those that failed stay for the next round: another is at it, most likely.
void read_some(Batch& batch, const pg::ResultSet* results, remote::Deadline deadline) {
  remote::Connection& connection = *batch.connection;
  while (remote::next_result(connection, remote::Interrupts::serve, deadline) != nullptr) {
    Orphan& orphan = *batch.orphans[batch.at + connection.step_at];
    orphan.settled = true;
    report(results, orphan.gid, orphan.shard_id, action_of(orphan));
  }
  const int code = remote::error_code(connection);
  if (code == pg::coordinator_fenced) remote::raise_error(connection);
  if (code != 0 && code != ERRCODE_UNDEFINED_OBJECT && code != ERRCODE_OBJECT_IN_USE &&
      code != ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE) {
    const char* const message = PQresultErrorField(connection.error, PG_DIAG_MESSAGE_PRIMARY);
    ereport(WARNING, errcode(code),
            errmsg("could not settle what is prepared on shard %d (server \"%s\")",
                   batch.view->target.shard_id, remote::server_name(batch.view->target.server)),
            errdetail_internal("%s", message == nullptr ? "the connection was lost" : message));
  }
  batch.at += batch.sent;
  if (!connection.in_flight && !connection.lost) return;
  remote::close_connection(connection);
  batch.at = batch.orphans.size();
}

void settle(const Store& store, std::span<ShardView> views, const pg::ResultSet* results,
            int patience) {
  const List* const batches = make_batches(store, views);
  ListCell* cell;
  foreach (cell, batches) {
    auto& batch = *static_cast<Batch*>(lfirst(cell));
    if (batch.connection != nullptr) continue;
    batch.at = batch.orphans.size();
    ereport(WARNING, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
            errmsg("what role \"%s\" prepared on shard %d cannot be settled", batch.owner,
                   batch.view->target.shard_id),
            errhint("CREATE USER MAPPING FOR ... SERVER %s OPTIONS (user %s, ...);",
                    quote_identifier(remote::server_name(batch.view->target.server)),
                    quote_literal_cstr(batch.owner)));
  }
  for (bool busy = true; busy;) {
    busy = false;
    CHECK_FOR_INTERRUPTS();
    foreach (cell, batches) {
      auto& batch = *static_cast<Batch*>(lfirst(cell));
      if (batch.at < batch.orphans.size()) send_some(batch);
    }
    const remote::Deadline deadline = remote::after_milliseconds(patience);
    foreach (cell, batches) {
      auto& batch = *static_cast<Batch*>(lfirst(cell));
      if (batch.at >= batch.orphans.size()) continue;
      read_some(batch, results, deadline);
      busy |= batch.at < batch.orphans.size();
    }
  }
}

// --- forgetting what is done
// -----------------------------------------------------------------------

enum class Part { carried_out, pending, missing };

const ShardView* view_of(std::span<const ShardView> views, int shard_id) {
  for (const ShardView& view : views)
    if (view.target.shard_id == shard_id) return &view;
  return nullptr;
}

/// What a shard has made of a decision; `missing` unless a receipt proves otherwise.
Part part_of(const Decision& decision, const ShardView* view) {
  if (view == nullptr || view->connection == nullptr) return Part::pending;
  for (const Orphan& orphan : view->orphans)
    if (std::string_view(orphan.base) == decision.base)
      return orphan.settled ? Part::carried_out : Part::pending;
  if (view->more) return Part::pending;
  // Version 1.7 wrote none.
  if (std::string_view(decision.base).starts_with(core::old_gid_prefix)) return Part::carried_out;
  return Part::missing;
}

void tell_damage(const Store& store, const Decision& decision, std::span<const int32> shards,
                 const pg::ResultSet* results) {
  auto* const values = static_cast<Datum*>(palloc(sizeof(Datum) * (shards.size() + 1)));
  for (std::size_t i = 0; i < shards.size(); ++i) values[i] = Int32GetDatum(shards[i]);
  const Datum ids = PointerGetDatum(construct_array(values, static_cast<int>(shards.size()),
                                                    INT4OID, sizeof(int32), true, TYPALIGN_INT));
  const bool news = pg::with_spi([&] {
    return pg::as_user(store.owner, [&] {
      return note_damage.run(0, {pg::Value(CStringGetTextDatum(decision.base)), pg::Value(ids)}) >
             0;
    });
  });
  if (results == nullptr && !news) return;
  for (const int32 shard : shards) report(results, decision.base, shard, "damaged");
}

/// Decisions that are over, with what is missing of them: those of which nothing is are forgotten.
int close_decisions(const Store& store, const Cluster& cluster, std::span<Decision> decisions,
                    std::span<ShardView> views, const pg::ResultSet* results, int patience) {
  auto** const bases = static_cast<const char**>(palloc(sizeof(char*) * (decisions.size() + 1)));
  std::size_t count = 0;
  for (const Decision& decision : decisions)
    if (decision.over) bases[count++] = decision.base;
  if (count == 0) return 0;
  const auto receipts = find_receipts(cluster, views, {bases, count}, patience);
  // A session forgets its decision first, and then the receipts: where the row is gone by now they
  // may be, too.
  const auto still_there = find_decisions(store, {bases, count});
  std::size_t done = 0;
  int left = 0;
  for (const Decision& decision : decisions) {
    if (!decision.over || !contains(still_there, decision.base)) continue;
    auto* const missing =
        static_cast<int32*>(palloc(sizeof(int32) * (decision.shard_ids.size() + 1)));
    std::size_t missing_count = 0;
    bool pending = false;
    for (const int32 shard : decision.shard_ids) {
      const Part part = part_of(decision, view_of(views, shard));
      pending |= part == Part::pending;
      if (part == Part::missing && !has_receipt(receipts, decision.base, shard))
        missing[missing_count++] = shard;
    }
    if (missing_count > 0) tell_damage(store, decision, {missing, missing_count}, results);
    if (pending || missing_count > 0)
      ++left;
    else
      bases[done++] = decision.base;
  }
  if (done > 0)
    pg::with_spi([&] {
      pg::as_user(store.owner, [&] {
        forget_decisions.run(0, {pg::Value(text_array({bases, done}))});
      });
    });
  return left;
}

bool is_prepared(std::span<const ShardView> views, const char* base) {
  return std::any_of(views.begin(), views.end(), [&](const ShardView& view) {
    return std::any_of(view.orphans.begin(), view.orphans.end(),
                       [&](const Orphan& orphan) { return std::string_view(orphan.base) == base; });
  });
}

/// Receipts whose decision was forgotten: all shards had committed. While something of the
/// transaction is prepared anywhere, or a shard is silent, they stay: they may be the only proof.
void forget_receipts(std::span<const char* const> decided, std::span<ShardView> views,
                     int patience) {
  if (!all_reached(views)) return;
  for (const ShardView& view : views) {
    StringInfoData gone;
    initStringInfo(&gone);
    ListCell* cell;
    foreach (cell, view.old_receipts) {
      const char* const base = strVal(lfirst(cell));
      if (contains(decided, base) || is_prepared(views, base)) continue;
      appendStringInfo(&gone, "%c%s", gone.len == 0 ? '{' : ',', base);
    }
    if (gone.len == 0) continue;
    appendStringInfoChar(&gone, '}');
    const std::array<const char*, 1> values{gone.data};
    remote::queue_text(*view.connection, forget_receipts_query, remote::Step::control,
                       {{}, values, {}, {}});
    remote::send(*view.connection);
  }
  const remote::Deadline deadline = remote::after_milliseconds(patience);
  for (const ShardView& view : views) {
    (void)remote::next_result(*view.connection, remote::Interrupts::serve, deadline);
    if (view.connection->in_flight || view.connection->lost)
      remote::close_connection(*view.connection);
  }
}

/// Decided transactions among the old receipts, before this round forgets any.
std::span<const char* const> decided_receipts(const Store& store,
                                              std::span<const ShardView> views) {
  std::size_t most = 0;
  for (const ShardView& view : views)
    most += static_cast<std::size_t>(list_length(view.old_receipts));
  auto** const bases = static_cast<const char**>(palloc(sizeof(char*) * (most + 1)));
  std::size_t count = 0;
  for (const ShardView& view : views) {
    ListCell* cell;
    foreach (cell, view.old_receipts) bases[count++] = strVal(lfirst(cell));
  }
  return find_decisions(store, {bases, count});
}

int count_in_doubt(std::span<const ShardView> views) {
  int count = 0;
  for (const ShardView& view : views)
    for (const Orphan& orphan : view.orphans)
      count += orphan.fate != Orphan::Fate::running && !orphan.settled ? 1 : 0;
  return count;
}

}  // namespace

bool is_running(const core::Gid& gid) {
  if (pg::is_locked(pg::LockKind::commit, gid.nonce)) return true;
  // One of a session with the library of version 1.7, which takes no lock.
  const FullTransactionId transaction = FullTransactionIdFromU64(gid.transaction);
  return FullTransactionIdPrecedes(transaction, ReadNextFullTransactionId()) &&
         TransactionIdIsInProgress(XidFromFullTransactionId(transaction));
}

std::span<const char* const> find_decisions(const Store& store,
                                            std::span<const char* const> bases) {
  if (bases.empty()) return {};
  const Datum array = text_array(bases);
  const MemoryContext memory = CurrentMemoryContext;
  return pg::with_spi([&]() -> std::span<const char* const> {
    const uint64 rows =
        pg::as_user(store.owner, [&] { return which_decisions.run(0, {pg::Value(array)}); });
    const MemoryContext saved = MemoryContextSwitchTo(memory);
    auto** const found = static_cast<const char**>(palloc(sizeof(char*) * (rows + 1)));
    for (uint64 row = 0; row < rows; ++row)
      found[row] = TextDatumGetCString(pg::result(row, 0).datum);
    MemoryContextSwitchTo(saved);
    std::sort(found, found + rows, text_less);
    return {found, rows};
  });
}

void find_fates(const Store& store, const Cluster& cluster, std::span<ShardView> views,
                int patience) {
  std::size_t most = 0;
  for (const ShardView& view : views) most += view.orphans.size();
  auto** const bases = static_cast<const char**>(palloc(sizeof(char*) * (most + 1)));
  std::size_t count = 0;
  const auto own = static_cast<uint64>(cluster.coordinator_id);
  for (const ShardView& view : views)
    for (Orphan& orphan : view.orphans) {
      if (orphan.numbers.coordinator == own && is_running(orphan.numbers))
        orphan.fate = Orphan::Fate::running;
      else
        bases[count++] = orphan.base;
    }
  const auto decided = find_decisions(store, {bases, count});
  const uint32 timeline = remote::incarnation().timeline;
  std::size_t foreign = 0;
  for (const ShardView& view : views)
    for (Orphan& orphan : view.orphans) {
      if (orphan.fate == Orphan::Fate::running) continue;
      const bool here = orphan.numbers.coordinator == own && timeline != 0 &&
                        (orphan.numbers.timeline == timeline || orphan.numbers.timeline == 0);
      if (contains(decided, orphan.base))
        orphan.fate = Orphan::Fate::commit;
      else if (here)
        orphan.fate = Orphan::Fate::roll_back;
      else
        bases[foreign++] = orphan.base;
    }
  if (foreign == 0) return;
  // Decided on another server, perhaps after the backup that this one comes from: then a shard may
  // have carried it out.
  const auto receipts = find_receipts(cluster, views, {bases, foreign}, patience);
  const bool complete = all_reached(views);
  for (const ShardView& view : views)
    for (Orphan& orphan : view.orphans) {
      if (orphan.fate != Orphan::Fate::unknown) continue;
      if (has_receipt(receipts, orphan.base, no_shard))
        orphan.fate = Orphan::Fate::commit;
      else if (complete && timeline != 0 && orphan.numbers.coordinator == own)
        orphan.fate = Orphan::Fate::roll_back;
    }
}

Left settle_all(const Store& store, const Cluster& cluster, const pg::ResultSet* results,
                int patience) {
  const std::span<Decision> decisions = list_decisions(store);
  const std::span<ShardView> views = view_shards(store, cluster, patience);
  find_fates(store, cluster, views, patience);
  Left left{};
  if (!decisions_are_safe()) {
    ereport(results == nullptr ? LOG : WARNING,
            errmsg("decisions wait for a synchronous standby, and the shards for them"));
  } else {
    settle(store, views, results, patience);
    const auto decided = decided_receipts(store, views);
    left.decisions = close_decisions(store, cluster, decisions, views, results, patience);
    forget_receipts(decided, views, patience);
  }
  for (const ShardView& view : views) {
    if (view.connection != nullptr) continue;
    ++left.unreached;
    if (results != nullptr)
      ereport(WARNING, errcode(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
              errmsg("shard %d (server \"%s\") cannot be asked: %s", view.target.shard_id,
                     remote::server_name(view.target.server), view.problem),
              errhint("What is prepared there stays so; call recover() again."));
  }
  left.in_doubt = count_in_doubt(views);
  return left;
}

}  // namespace order_proc
