// Statuses: a list per backend, read as the owner of order_statuses, in a memory context of its
// own. A statement trigger on that table (enabled ALWAYS) invalidates the table's relation cache
// entry, and with it the list of every backend; while the trigger is missing or switched off, the
// list is read at each use.
#include "statuses.hpp"

#include "pg/error.hpp"
#include "pg/spi.hpp"
#include "pg/trigger.hpp"
#include "pg/user.hpp"
#include "routing.hpp"

namespace order_proc {

namespace {

struct StatusList {
  MemoryContext memory = nullptr;
  text** statuses = nullptr;
  uint64 count = 0;
  text* initial = nullptr;
  Oid table = InvalidOid;
  bool fresh = false;
  uint64 invalidations = 0;
};
StatusList list;

pg::Statement all_statuses{
    "SELECT s.status, s.is_initial FROM order_store.order_statuses AS s "
    "ORDER BY s.is_initial USING OPERATOR(pg_catalog.>), s.status COLLATE pg_catalog.\"C\" USING "
    "OPERATOR(pg_catalog.<)"};

/// Whether changes of the table are announced.
bool announced(Oid table) {
  const Relation relation = open_table(table, AccessShareLock);
  bool found = false;
  for (int i = 0; relation->trigdesc != nullptr && i < relation->trigdesc->numtriggers; ++i) {
    const Trigger& trigger = relation->trigdesc->triggers[i];
    constexpr int16 events =
        TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE | TRIGGER_TYPE_TRUNCATE;
    found |= is_our_function(trigger.tgfoid, "statuses_changed") &&
             trigger.tgenabled == TRIGGER_FIRES_ALWAYS && trigger.tgqual == nullptr &&
             trigger.tgnattr == 0 && (trigger.tgtype & events) == events;
  }
  table_close(relation, AccessShareLock);
  return found;
}

void read_statuses(Oid table) {
  if (list.memory == nullptr)
    list.memory =
        AllocSetContextCreate(TopMemoryContext, "order_proc statuses", ALLOCSET_SMALL_SIZES);
  list.fresh = false;
  list.count = 0;
  list.initial = nullptr;
  MemoryContextReset(list.memory);
  list.table = table;
  const uint64 invalidations = list.invalidations;
  const bool keep = announced(table);
  pg::with_spi([&] {
    pg::as_user(table_owner(table), [&] { all_statuses.run(0, {}); });
    list.statuses =
        static_cast<text**>(MemoryContextAlloc(list.memory, sizeof(text*) * (SPI_processed + 1)));
    for (uint64 row = 0; row < SPI_processed; ++row) {
      const pg::Value status = pg::result(row, 0);
      const pg::Value initial = pg::result(row, 1);
      if (status.null) continue;
      const std::string_view name = pg::view(DatumGetTextPP(status.datum));
      const MemoryContext saved = MemoryContextSwitchTo(list.memory);
      text* const kept = cstring_to_text_with_len(name.data(), static_cast<int>(name.size()));
      MemoryContextSwitchTo(saved);
      list.statuses[list.count++] = kept;
      if (!initial.null && DatumGetBool(initial.datum) && list.initial == nullptr)
        list.initial = kept;
    }
  });  // A change announced while reading may have come after the look.
  list.fresh = keep && list.invalidations == invalidations;
}

void refresh(const Store& store) {
  const Oid table = store.table(Table::order_statuses);
  if (!list.fresh || list.table != table) read_statuses(table);
}

text* find(std::string_view name) {
  for (uint64 i = 0; i < list.count; ++i)
    if (pg::view(list.statuses[i]) == name) return list.statuses[i];
  return nullptr;
}

/// A status in a list.
const char* listed(std::string_view status) {
  return status.empty() ? "\"\"" : pg::shown(status);
}

/// "pending, paid, ..." for a HINT.
const char* known_statuses() {
  StringInfoData names;
  initStringInfo(&names);
  for (uint64 i = 0; i < list.count && names.len < 1024; ++i)
    appendStringInfo(&names, "%s%s", i == 0 ? "" : ", ", listed(pg::view(list.statuses[i])));
  return list.count == 0 ? "order_store.order_statuses is empty" : names.data;
}

[[noreturn]] void unknown_status(std::string_view name) {
  ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
          errmsg("unknown status \"%s\"", pg::shown(name)),
          errhint("Known statuses: %s.", known_statuses()));
}

void statuses_invalidated(Datum, Oid relation) {
  if (OidIsValid(relation) && relation != list.table) return;
  list.fresh = false;
  ++list.invalidations;
}

}  // namespace

pg::Text status_for_new_order(const Store& store, pg::Text given) {
  refresh(store);
  if (given) {
    if (find(given.view()) == nullptr) unknown_status(given.view());
    return given;
  }
  if (list.initial == nullptr)
    ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("no status is the initial one"),
            errhint("Give a status, or UPDATE order_store.order_statuses SET is_initial = true for "
                    "one of them."));
  // A copy: a trigger of the user's may make the list be read anew while the order is written.
  return {DatumGetTextPCopy(PointerGetDatum(list.initial))};
}

std::span<text*> copy_statuses(const Store& store) {
  refresh(store);
  auto** const copies = static_cast<text**>(palloc(sizeof(text*) * (list.count + 1)));
  for (uint64 i = 0; i < list.count; ++i)
    copies[i] = DatumGetTextPCopy(PointerGetDatum(list.statuses[i]));
  return {copies, list.count};
}

void watch_statuses() {
  CacheRegisterRelcacheCallback(statuses_invalidated, 0);
}

namespace {

pg::Statement lock_order{
    "SELECT o.status FROM order_store.orders AS o WHERE o.id OPERATOR(pg_catalog.=) $1 FOR NO KEY "
    "UPDATE",
    INT8OID};
pg::Statement allowed_moves{
    "SELECT t.to_status FROM order_store.status_transitions AS t WHERE t.from_status "
    "OPERATOR(pg_catalog.=) $1 "
    "ORDER BY t.to_status COLLATE pg_catalog.\"C\" USING OPERATOR(pg_catalog.<)",
    TEXTOID};
pg::Statement set_status{
    "UPDATE order_store.orders AS o SET status = $2, updated_at = pg_catalog.now() "
    "WHERE o.id OPERATOR(pg_catalog.=) $1",
    INT8OID, TEXTOID};
pg::Statement add_history{
    "INSERT INTO order_store.order_status_history (order_id, from_status, to_status, changed_by) "
    "VALUES ($1, $2, $3, $4)",
    INT8OID, TEXTOID, TEXTOID, TEXTOID};

/// OP201 unless status_transitions lists the move. Inside with_spi.
void require_transition(const Store& store, int64 order_id, pg::Text present, pg::Text wanted) {
  pg::as_user(table_owner(store.table(Table::status_transitions)),
              [&] { allowed_moves.run(0, {pg::Value(present.datum())}); });
  StringInfoData moves;
  initStringInfo(&moves);
  for (uint64 row = 0; row < SPI_processed; ++row) {
    const pg::Value to = pg::result(row, 0);
    if (to.null) continue;
    const std::string_view move = pg::view(DatumGetTextPP(to.datum));
    // The same status again is no move, whatever the table says.
    if (move == present.view()) continue;
    if (move == wanted.view()) return;
    if (moves.len < 1024)
      appendStringInfo(&moves, "%s%s", moves.len == 0 ? "" : ", ", listed(move));
  }
  ereport(ERROR, errcode(pg::transition_not_allowed),
          errmsg("order " INT64_FORMAT " cannot go from \"%s\" to \"%s\"", order_id,
                 pg::shown(present.view()), pg::shown(wanted.view())),
          errdetail("The present status is \"%s\"; allowed next ones: %s.",
                    pg::shown(present.view()), moves.len == 0 ? "none" : moves.data),
          errhint("TABLE order_store.status_transitions lists the moves."));
}

[[noreturn]] void not_moved(int64 order_id, pg::Text present) {
  ereport(ERROR, errcode(pg::store_mismatch),
          errmsg("order_store.orders did not take the new status of order " INT64_FORMAT, order_id),
          errdetail("It is still \"%s\": a trigger or rule of the table held the change back.",
                    pg::shown(present.view())),
          errhint("\\d order_store.orders lists them."));
}

[[noreturn]] void unknown_order(int64 order_id) {
  ereport(ERROR, errcode(ERRCODE_NO_DATA_FOUND),
          errmsg("order " INT64_FORMAT " does not exist", order_id),
          errhint("SELECT id FROM order_proc.list_orders_paginated();"));
}

/// The status of the order, which is locked against other writers. Inside with_spi.
text* present_status(int64 order_id, MemoryContext memory) {
  if (lock_order.run(0, {pg::Value(Int64GetDatum(order_id))}) == 0) unknown_order(order_id);
  const pg::Value status = pg::result(0, 0);
  const std::string_view name =
      status.null ? std::string_view{} : pg::view(DatumGetTextPP(status.datum));
  const MemoryContext saved = MemoryContextSwitchTo(memory);
  text* const kept = cstring_to_text_with_len(name.data(), static_cast<int>(name.size()));
  MemoryContextSwitchTo(saved);
  return kept;
}

}  // namespace

namespace {

/// The history is written with rights that the caller does not have: for changes of orders only.
void require_orders(const Store& store, Relation table) {
  const Oid orders = store.table(Table::orders);
  const bool ours = RelationGetRelid(table) == orders ||
                    (table->rd_rel->relispartition &&
                     list_member_oid(get_partition_ancestors(RelationGetRelid(table)), orders));
  if (!ours)
    ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
            errmsg("record_status_change() is a trigger function for order_store.orders, not for "
                   "\"%s\"",
                   RelationGetRelationName(table)));
}

}  // namespace

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_update_order_status);
Datum order_proc_update_order_status(PG_FUNCTION_ARGS) {
  const pg::Args args(fcinfo);
  const int64 order_id = args.get_int64(0, "order_id");
  const pg::Text wanted = args.get_text(1, "new_status");
  const pg::Text expected = args.find_text(2);
  if (const Cluster* const cluster = routed(changes_statuses))
    return call_on_shard(fcinfo, route_of_order(*cluster, order_id), remote::Use::write);
  const Store store = open_store({{Table::orders, RowExclusiveLock}});
  refresh(store);
  if (find(wanted.view()) == nullptr) unknown_status(wanted.view());
  const MemoryContext memory = CurrentMemoryContext;
  const pg::Text previous = pg::with_spi([&] {
    const pg::Text present{present_status(order_id, memory)};
    if (expected && expected.view() != present.view())
      ereport(ERROR, errcode(pg::status_not_expected),
              errmsg("order " INT64_FORMAT " is \"%s\", not \"%s\"", order_id,
                     pg::shown(present.view()), pg::shown(expected.view())),
              errdetail("The present status is \"%s\".", pg::shown(present.view())),
              errhint("SELECT * FROM order_proc.get_order(" INT64_FORMAT ");", order_id));
    require_transition(store, order_id, present, wanted);
    const bool sure = !others_may_change_rows(store.table(Table::orders), TRIGGER_TYPE_UPDATE);
    const uint64 moved =
        set_status.run(0, {pg::Value(Int64GetDatum(order_id)), pg::Value(wanted.datum())});
    if ((moved == 0 || !sure) && pg::view(present_status(order_id, memory)) == present.view())
      not_moved(order_id, present);
    return present;
  });
  PG_RETURN_TEXT_P(previous.value);
}

PG_FUNCTION_INFO_V1(order_proc_record_status_change);
Datum order_proc_record_status_change(PG_FUNCTION_ARGS) {
  TriggerData* const trigger = pg::trigger_data(fcinfo, "record_status_change");
  pg::require_trigger(TRIGGER_FIRED_AFTER(trigger->tg_event) &&
                          TRIGGER_FIRED_FOR_ROW(trigger->tg_event) &&
                          TRIGGER_FIRED_BY_UPDATE(trigger->tg_event),
                      "record_status_change", "AFTER UPDATE FOR EACH ROW");
  const Store& store = open_store_at_any_layout();
  require_orders(store, trigger->tg_relation);
  const TupleDesc descriptor = RelationGetDescr(trigger->tg_relation);
  const int id_column = SPI_fnumber(descriptor, "id");
  const int status_column = SPI_fnumber(descriptor, "status");
  if (id_column <= 0 || status_column <= 0 ||
      getBaseType(SPI_gettypeid(descriptor, id_column)) != INT8OID ||
      getBaseType(SPI_gettypeid(descriptor, status_column)) != TEXTOID)
    ereport(ERROR, errcode(pg::store_mismatch),
            errmsg("table \"%s\" does not have the columns id bigint and status text",
                   RelationGetRelationName(trigger->tg_relation)),
            errhint("Bring the columns back under their names and types."));
  std::array<bool, 3> nulls{};
  const Datum id = heap_getattr(trigger->tg_newtuple, id_column, descriptor, &nulls[0]);
  const Datum before = heap_getattr(trigger->tg_trigtuple, status_column, descriptor, &nulls[1]);
  const Datum after = heap_getattr(trigger->tg_newtuple, status_column, descriptor, &nulls[2]);
  const bool changed = nulls[1] != nulls[2] || (!nulls[1] && pg::view(DatumGetTextPP(before)) !=
                                                                 pg::view(DatumGetTextPP(after)));
  if (changed) {
    const Datum by = CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
    pg::with_spi([&] {
      pg::as_user(table_owner(store.table(Table::order_status_history)), [&] {
        add_history.run(0, {pg::Value(id, nulls[0]), pg::Value(before, nulls[1]),
                            pg::Value(after, nulls[2]), pg::Value(by)});
      });
    });
  }
  return PointerGetDatum(trigger->tg_newtuple);
}

PG_FUNCTION_INFO_V1(order_proc_statuses_changed);
Datum order_proc_statuses_changed(PG_FUNCTION_ARGS) {
  const TriggerData* const trigger = pg::trigger_data(fcinfo, "statuses_changed");
  pg::require_trigger(
      TRIGGER_FIRED_AFTER(trigger->tg_event) && !TRIGGER_FIRED_FOR_ROW(trigger->tg_event),
      "statuses_changed", "AFTER a change FOR EACH STATEMENT");
  CacheInvalidateRelcache(trigger->tg_relation);
  return PointerGetDatum(nullptr);
}

}  // extern "C"

}  // namespace order_proc
