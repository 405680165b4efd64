// create_order_with_compensation, in three transactions at most: the order and the saga's row in
// order_store.sagas; the end of the row and the follow-up; or, when that fails, the end of the row
// and of the order. So the row is there exactly while an order waits for its follow-up, whatever
// dies when.
//
// Who takes back for a session that died holds the row's lock, and looks before that whether the
// session's own lock is free: of a saga in progress the row is locked but for a moment.
//
// Memory: the procedure's, which outlives its transactions.
#include "saga.hpp"

#include "consistent_cut.hpp"
#include "pg/locks.hpp"
#include "pg/query.hpp"
#include "pg/savepoint.hpp"
#include "pg/spi.hpp"

namespace order_proc {

namespace {

struct Saga {
  int64 id;
  int64 order_id;
  const char* step;
  const char* compensation;
};

pg::Statement make_order{"SELECT order_proc.create_order_with_items($1, $2, $3, $4, $5, $6)",
                         INT8OID,
                         TEXTOID,
                         NUMERICOID,
                         INT8ARRAYOID,
                         INT4ARRAYOID,
                         NUMERICARRAYOID};
pg::Statement add_saga{
    "INSERT INTO order_store.sagas (order_id, step, compensation, recorded_by) VALUES ($1, $2, $3, "
    "$4) RETURNING id",
    INT8OID, TEXTOID, TEXTOID, TEXTOID};
pg::Statement end_saga{"DELETE FROM order_store.sagas AS s WHERE s.id OPERATOR(pg_catalog.=) $1",
                       INT8OID};
pg::Statement note_failure{
    "UPDATE order_store.sagas AS s SET attempts = s.attempts OPERATOR(pg_catalog.+) 1, "
    "attempted_at = pg_catalog.now(), last_error = $2 WHERE s.id OPERATOR(pg_catalog.=) $1",
    INT8OID, TEXTOID};
/// All of them, or those whose turn it is: after 2, 4, 8 s ... up to an hour.
pg::Statement open_sagas{
    "SELECT s.id FROM order_store.sagas AS s WHERE $1 OR s.attempted_at IS NULL OR "
    "s.attempted_at OPERATOR(pg_catalog.<) (pg_catalog.now() OPERATOR(pg_catalog.-) "
    "pg_catalog.make_interval(secs => pg_catalog.power(2::pg_catalog.float8, "
    "LEAST(s.attempts, 12)::pg_catalog.float8))) ORDER BY s.id USING OPERATOR(pg_catalog.<)",
    BOOLOID};
pg::Statement lock_saga{
    "SELECT s.order_id, s.compensation, s.recorded_by FROM order_store.sagas AS s "
    "WHERE s.id OPERATOR(pg_catalog.=) $1 FOR UPDATE SKIP LOCKED",
    INT8OID};

/// As the owner of the store, whose table it is.
uint64 run_as_owner(pg::Statement& statement, std::initializer_list<pg::Value> values) {
  return pg::as_user(open_store_for_anyone().owner, [&] { return statement.run(0, values); });
}

pg::Value text_value(const char* text) {
  return pg::Value(CStringGetTextDatum(text));
}

pg::Value id_value(int64 id) {
  return pg::Value(Int64GetDatum(id));
}

const char* deletion_of(int64 order_id) {
  return psprintf("SELECT order_proc.delete_order(" INT64_FORMAT ")", order_id);
}

/// Ends the saga with the present transaction; false when somebody else has.
bool end_row(const Saga& saga) {
  return pg::with_spi([&] { return run_as_owner(end_saga, {id_value(saga.id)}) > 0; });
}

/// Runs a stored text under the locked search_path; whether its result is true.
bool run_text(const char* text) {
  bool result = false;
  pg::with_locked_path([&] {
    pg::with_spi([&] {
      pg::execute(text);
      if (SPI_processed == 0 || SPI_tuptable == nullptr) return;
      const pg::Value value = pg::result(0, 0);
      result = SPI_gettypeid(SPI_tuptable->tupdesc, 1) == BOOLOID && !value.null &&
               DatumGetBool(value.datum);
    });
  });
  return result;
}

/// Deletes the order, or raises. One that is not to be seen may be part of a transaction that its
/// shard has yet to commit.
void delete_order(int64 order_id, const char* compensation) {
  const Cluster* const cluster = routed({});
  bool in_doubt = false;
  if (cluster != nullptr) {
    remote::Connection* connection = nullptr;
    remote::connect({&shard_of_order(*cluster, order_id), 1}, {&connection, 1});
    in_doubt = in_doubt_on(*connection);
  }
  if (run_text(compensation) || !in_doubt) return;
  ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
          errmsg("order " INT64_FORMAT " may be part of a transaction in doubt", order_id),
          errhint("SELECT * FROM order_proc.recover();"));
}

// --- the procedure -------------------------------------------------------------------------------

void require_own_transactions(FunctionCallInfo fcinfo) {
  const auto* const call = reinterpret_cast<const CallContext*>(fcinfo->context);
  if (call == nullptr || !IsA(call, CallContext) || call->atomic)
    ereport(ERROR, errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
            errmsg("create_order_with_compensation commits and cannot run inside a transaction "
                   "block"),
            errhint("CALL order_proc.create_order_with_compensation(...); outside BEGIN."));
}

/// The follow-up as text, but for its argument; raises unless the caller may call it.
const char* name_of_follow_up(Oid function) {
  const HeapTuple row = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
  if (!HeapTupleIsValid(row))
    ereport(ERROR, errcode(ERRCODE_UNDEFINED_FUNCTION),
            errmsg("function with oid %u does not exist", function),
            errhint("'schema.function(bigint)'::regprocedure"));
  const auto* const form = reinterpret_cast<Form_pg_proc>(GETSTRUCT(row));
  const char* const name = quote_qualified_identifier(get_namespace_name(form->pronamespace),
                                                      pstrdup(NameStr(form->proname)));
  const bool is_function = form->prokind == PROKIND_FUNCTION;
  const bool fits = form->pronargs >= 1 && form->pronargs - form->pronargdefaults <= 1 &&
                    form->proargtypes.values[0] == INT8OID;
  ReleaseSysCache(row);
  if (!is_function)
    ereport(ERROR, errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("%s is not a function", name),
            errhint("A follow-up is a function that takes the order's id."));
  if (!fits)
    ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
            errmsg("%s cannot be called with the id of an order", format_procedure(function)),
            errhint("A follow-up is a function that takes one bigint."));
  if (!pg::may_execute(function, GetUserId()))
    aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, name);
  return name;
}

/// Who could not take it back must not begin.
void require_delete() {
  const Oid orders = open_store().table(Table::orders);
  if (!pg::caller_may({orders, ACL_DELETE, {}, {}}))
    aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, "orders");
}

/// The order and the record of what is to be done, not yet committed.
Saga begin_saga(const pg::Args& args, const char* follow_up) {
  const auto value = [&](int i) {
    return args.null(i) ? pg::Value{} : pg::Value(args.datum(i, ""));
  };
  Saga saga{};
  saga.order_id = pg::with_spi([&] {
    make_order.run(0, {value(1), value(2), value(3), value(4), value(5), value(6)});
    return DatumGetInt64(pg::result(0, 0).datum);
  });
  saga.step = psprintf("SELECT %s(" INT64_FORMAT "::pg_catalog.int8)", follow_up, saga.order_id);
  saga.compensation = deletion_of(saga.order_id);
  saga.id = pg::with_spi([&] {
    run_as_owner(add_saga,
                 {id_value(saga.order_id), text_value(saga.step), text_value(saga.compensation),
                  text_value(GetUserNameFromId(GetUserId(), false))});
    return DatumGetInt64(pg::result(0, 0).datum);
  });
  return saga;
}

/// Runs the follow-up in a transaction of its own; what it raised. `row_ended`: whether the present
/// transaction has ended the row already.
ErrorData* follow_up(const Saga& saga, bool* row_ended) {
  *row_ended = end_row(saga);
  if (!*row_ended)
    ereport(ERROR, errcode(ERRCODE_TRANSACTION_ROLLBACK),
            errmsg("order " INT64_FORMAT " was taken back meanwhile", saga.order_id),
            errhint("Run the call again."));
  ErrorData* const error = pg::in_savepoint([&] { (void)run_text(saga.step); });
  if (error != nullptr) return error;
  *row_ended = false;
  return pg::commit_or_error();
}

/// Deletes the order in a transaction of its own; what that raised.
ErrorData* compensate(const Saga& saga, bool row_ended) {
  ErrorData* const error = pg::in_savepoint([&] {
    if (row_ended || end_row(saga)) delete_order(saga.order_id, saga.compensation);
  });
  if (error == nullptr) return pg::commit_or_error();
  SPI_rollback();
  return error;
}

const char* with_hint(const ErrorData* cause, const char* hint) {
  if (cause->hint == nullptr || *cause->hint == '\0') return hint;
  const bool ended = strchr(".;!?:", cause->hint[strlen(cause->hint) - 1]) != nullptr;
  return psprintf("%s%s %s", cause->hint, ended ? "" : ".", hint);
}

[[noreturn]] void take_back(const Saga& saga, ErrorData* cause, bool row_ended) {
  const ErrorData* const failure = compensate(saga, row_ended);
  if (failure == nullptr) {
    cause->hint = const_cast<char*>(
        with_hint(cause, psprintf("Order " INT64_FORMAT " was deleted again: the follow-up failed.",
                                  saga.order_id)));
    ReThrowError(cause);
  }
  pg::with_spi([&] {
    run_as_owner(note_failure, {id_value(saga.id), text_value(failure->message)});
  });
  (void)pg::commit_or_error();
  cause->hint = const_cast<char*>(
      with_hint(cause, psprintf("Order " INT64_FORMAT " is still there (%s): SELECT * FROM "
                                "order_proc.recover(); deletes it.",
                                saga.order_id, failure->message)));
  ReThrowError(cause);
}

Datum record_of(FunctionCallInfo fcinfo, int64 order_id) {
  TupleDesc descriptor;
  if (get_call_result_type(fcinfo, nullptr, &descriptor) != TYPEFUNC_COMPOSITE)
    elog(ERROR, "create_order_with_compensation does not return a record");
  Datum value = Int64GetDatum(order_id);
  bool null = false;
  return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor), &value, &null));
}

}  // namespace

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_create_order_with_compensation);
Datum order_proc_create_order_with_compensation(PG_FUNCTION_ARGS) {
  const pg::Args args(fcinfo);
  require_own_transactions(fcinfo);
  const char* const name = name_of_follow_up(args.get_oid(7, "follow_up"));
  require_delete();
  SPI_connect_ext(SPI_OPT_NONATOMIC);
  const Saga saga = begin_saga(args, name);
  pg::with_session_lock(pg::LockKind::saga, static_cast<uint64>(saga.id), [&] {
    SPI_commit();
    bool row_ended = false;
    ErrorData* const error = follow_up(saga, &row_ended);
    if (error != nullptr) take_back(saga, error, row_ended);
  });
  SPI_finish();
  return record_of(fcinfo, saga.order_id);
}

}  // extern "C"

// --- after a crash -------------------------------------------------------------------------------

namespace {

/// What recover() found of a saga, in its memory.
struct OpenSaga {
  int64 id;
  int64 order_id;
  const char* compensation;
  const char* recorded_by;
};

List* list_sagas(bool all) {
  const MemoryContext memory = CurrentMemoryContext;
  return pg::with_spi([&] {
    const uint64 rows = run_as_owner(open_sagas, {pg::Value(BoolGetDatum(all))});
    const MemoryContext saved = MemoryContextSwitchTo(memory);
    List* ids = NIL;
    for (uint64 row = 0; row < rows; ++row) {
      auto* const id = static_cast<int64*>(palloc(sizeof(int64)));
      *id = DatumGetInt64(pg::result(row, 0).datum);
      ids = lappend(ids, id);
    }
    MemoryContextSwitchTo(saved);
    return ids;
  });
}

/// Locks the row; false when a session is at it, or it is gone.
bool lock_row(int64 id, OpenSaga* left) {
  if (pg::is_locked(pg::LockKind::saga, static_cast<uint64>(id))) return false;
  const MemoryContext memory = CurrentMemoryContext;
  return pg::with_spi([&] {
    if (run_as_owner(lock_saga, {id_value(id)}) == 0) return false;
    const MemoryContext saved = MemoryContextSwitchTo(memory);
    *left = {id, DatumGetInt64(pg::result(0, 0).datum), TextDatumGetCString(pg::result(0, 1).datum),
             TextDatumGetCString(pg::result(0, 2).datum)};
    MemoryContextSwitchTo(saved);
    return true;
  });
}

/// As the role that recorded it, if the owner of the store may act as that role anyway: he could
/// write a row in anybody's name. Else as the owner, for what the role may do itself.
void compensate_left(const Store& store, const OpenSaga& left) {
  const Oid role = get_role_oid(left.recorded_by, false);
  const Oid orders = store.table(Table::orders);
  const bool as_role = is_member_of_role(store.owner, role);
  if (!as_role && pg_class_aclcheck(orders, role, ACL_DELETE) != ACLCHECK_OK)
    aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, "orders");
  (void)end_row({left.id, left.order_id, nullptr, nullptr});
  pg::as_user(
      as_role ? role : store.owner,
      [&] {
        // What is deferred would fire with the rights of whoever commits.
        pg::with_spi([] { pg::execute("SET CONSTRAINTS ALL IMMEDIATE"); });
        delete_order(left.order_id, as_role ? left.compensation : deletion_of(left.order_id));
      },
      SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
}

pg::Value shard_of(int64 order_id) {
  const Cluster* const cluster = routed({});
  if (cluster == nullptr) return {};
  return pg::Value(Int32GetDatum(shard_of_order(*cluster, order_id).shard_id));
}

void report(const pg::ResultSet* results, const OpenSaga& saga, const ErrorData* error) {
  if (results != nullptr)
    return results->add({text_value(psprintf("saga " INT64_FORMAT, saga.id)),
                         shard_of(saga.order_id),
                         text_value(error == nullptr ? "compensated" : "failed")});
  if (error == nullptr)
    ereport(LOG, errmsg("saga " INT64_FORMAT ": order " INT64_FORMAT " was deleted", saga.id,
                        saga.order_id));
  else
    ereport(LOG, errmsg("saga " INT64_FORMAT ": order " INT64_FORMAT " cannot be deleted: %s",
                        saga.id, saga.order_id, error->message));
}

}  // namespace

void compensate_sagas(const Store& store, const pg::ResultSet* results) {
  if (!store.layout.has_sagas()) return;
  const List* const ids = list_sagas(results != nullptr);
  const ListCell* cell;
  foreach (cell, ids) {
    CHECK_FOR_INTERRUPTS();
    OpenSaga left{};
    if (!lock_row(*static_cast<const int64*>(lfirst(cell)), &left)) continue;
    ErrorData* const error = pg::in_savepoint([&] { compensate_left(store, left); });
    if (error != nullptr && ERRCODE_TO_CATEGORY(error->sqlerrcode) ==
                                ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION))
      ReThrowError(error);
    if (error != nullptr)
      pg::with_spi([&] {
        run_as_owner(note_failure, {id_value(left.id), text_value(error->message)});
      });
    report(results, left, error);
  }
}

}  // namespace order_proc
