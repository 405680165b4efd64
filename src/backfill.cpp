// The backfill of customers' names: parts out of names at layout 1.3, names out of parts on the way
// back to it, batch by batch; and whether it has been done.
//
// Each batch is a transaction: an ERROR takes back the present one, what was committed stays and is
// not looked at again. Memory: the transaction's.
#include "core/layout.hpp"
#include "names.hpp"
#include "pg/error.hpp"
#include "pg/spi.hpp"
#include "pg/user.hpp"

namespace order_proc {

namespace {

/// A CHECK on customers that tells the steps between 1.3 and 1.4 that no row is left to fill in.
struct NameCheck {
  const char* name;
  const char* condition;
  const char* definition;  ///< as PostgreSQL writes it when it is validated
};
constexpr NameCheck parts_there{
    "customers_names_backfilled", "name IS NULL OR first_name IS NOT NULL OR last_name IS NOT NULL",
    "CHECK (((name IS NULL) OR (first_name IS NOT NULL) OR (last_name IS NOT NULL)))"};
constexpr NameCheck name_there{
    "customers_names_joined", "name IS NOT NULL OR (first_name IS NULL AND last_name IS NULL)",
    "CHECK (((name IS NOT NULL) OR ((first_name IS NULL) AND (last_name IS NULL))))"};

/// Whether it is there, as we made it, and holds for all rows.
bool validated(Oid customers, const NameCheck& check) {
  const Oid constraint = get_relation_constraint_oid(customers, check.name, true);
  if (!OidIsValid(constraint)) return false;
  const Datum definition = DirectFunctionCall1(pg_get_constraintdef, ObjectIdGetDatum(constraint));
  return pg::view(DatumGetTextPP(definition)) == check.definition;
}

}  // namespace

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_require_backfilled_names);
Datum order_proc_require_backfilled_names(PG_FUNCTION_ARGS) {
  static pg::Statement any_left{
      "SELECT c.id FROM order_store.customers AS c WHERE c.name IS NOT NULL AND c.first_name IS "
      "NULL AND c.last_name IS "
      "NULL LIMIT 1"};
  const Store& store = open_store_at_any_layout();
  if (!store.layout.has_name() || validated(store.table(Table::customers), parts_there))
    PG_RETURN_VOID();
  const auto left = pg::with_spi(
      [&] { return any_left.run(0, {}) > 0 ? DatumGetInt64(pg::result(0, 0).datum) : -1; });
  if (left >= 0)
    ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
            errmsg("customer " INT64_FORMAT
                   " is not backfilled: the name is not split into first_name and last_name",
                   left),
            errhint("ALTER EXTENSION order_proc UPDATE TO '1.3'; CALL "
                    "order_proc.backfill_customer_names(); ALTER "
                    "EXTENSION order_proc UPDATE;"));
  PG_RETURN_VOID();
}

}  // extern "C"

void backfill_names_at_once(const Store& store) {
  pg::as_store_owner(store.owner, [&] {
    pg::execute("SET CONSTRAINTS ALL IMMEDIATE");
    pg::execute(
        "UPDATE order_store.customers SET first_name = order_proc.first_name(name), last_name = "
        "order_proc.last_name(name) WHERE name IS NOT NULL AND first_name IS NULL AND last_name IS "
        "NULL");
    pg::execute("SET CONSTRAINTS ALL IMMEDIATE");
  });
}

namespace {

/// One batch of customers from `from` on, in the order of their ids; the number filled in and the
/// last id. Rows that somebody holds are left for a later pass.
pg::Statement next_batch{
    "WITH batch AS MATERIALIZED ("
    "  SELECT c.id FROM order_store.customers AS c"
    "  WHERE c.id OPERATOR(pg_catalog.>=) $1"
    "    AND c.name IS NOT NULL AND c.first_name IS NULL AND c.last_name IS NULL"
    "  ORDER BY c.id USING OPERATOR(pg_catalog.<) LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED"
    "), filled AS ("
    "  UPDATE order_store.customers AS c"
    "  SET first_name = order_proc.first_name(c.name), last_name = order_proc.last_name(c.name)"
    "  FROM batch AS b WHERE c.id OPERATOR(pg_catalog.=) b.id RETURNING c.id"
    ") SELECT pg_catalog.count(*), pg_catalog.max(f.id) FROM filled AS f",
    INT8OID, INT8OID};

/// The other way: customers.name, which the plan of the way down to 1.3 adds, out of the parts.
pg::Statement next_joined_batch{
    "WITH batch AS MATERIALIZED ("
    "  SELECT c.id FROM order_store.customers AS c"
    "  WHERE c.id OPERATOR(pg_catalog.>=) $1"
    "    AND c.name IS DISTINCT FROM order_proc.full_name(c.first_name, c.last_name)"
    "  ORDER BY c.id USING OPERATOR(pg_catalog.<) LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED"
    "), filled AS ("
    "  UPDATE order_store.customers AS c SET name = order_proc.full_name(c.first_name, c.last_name)"
    "  FROM batch AS b WHERE c.id OPERATOR(pg_catalog.=) b.id RETURNING c.id"
    ") SELECT pg_catalog.count(*), pg_catalog.max(f.id) FROM filled AS f",
    INT8OID, INT8OID};

/// A row that passes left because somebody held it, waited for.
pg::Statement any_left{
    "SELECT c.id FROM order_store.customers AS c"
    " WHERE c.name IS NOT NULL AND c.first_name IS NULL AND c.last_name IS NULL"
    " LIMIT 1 FOR NO KEY UPDATE"};
pg::Statement any_joined_left{
    "SELECT c.id FROM order_store.customers AS c"
    " WHERE c.name IS DISTINCT FROM order_proc.full_name(c.first_name, c.last_name)"
    " LIMIT 1 FOR NO KEY UPDATE"};

pg::Statement count_left{
    "SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE c.name IS NOT NULL"
    " AND c.first_name IS NULL AND c.last_name IS NULL) FROM order_store.customers AS c"};
pg::Statement count_joined_left{
    "SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE c.name IS DISTINCT FROM"
    " order_proc.full_name(c.first_name, c.last_name)) FROM order_store.customers AS c"};

struct Progress {
  int64 total = 0;
  int64 done_before = 0;  ///< by earlier calls, or there was nothing to do
  int64 filled = 0;
  TimestampTz start = 0;
  TimestampTz last_notice = 0;
};

/// As a NOTICE, and in pg_stat_activity for everybody else.
void report(Progress& progress, bool finished) {
  const TimestampTz now = GetCurrentTimestamp();
  if (!finished && !TimestampDifferenceExceeds(progress.last_notice, now, 1000)) return;
  progress.last_notice = now;
  const double seconds = std::max(static_cast<double>(now - progress.start) / USECS_PER_SEC, 0.001);
  const double rate = static_cast<double>(progress.filled) / seconds;
  const int64 done = progress.done_before + progress.filled;
  // Customers may have been added since they were counted.
  const int64 total = std::max(progress.total, done);
  const char* const text =
      finished ? psprintf(INT64_FORMAT " customers filled in, %.0f rows per second",
                          progress.filled, rate)
               : psprintf(INT64_FORMAT " of " INT64_FORMAT
                                       " customers done, %.0f rows per second, about %.0f s left",
                          done, total, rate, static_cast<double>(total - done) / rate);
  ereport(NOTICE, errmsg("%s", text));
  if (!finished)
    pgstat_report_activity(STATE_RUNNING,
                           psprintf("CALL order_proc.backfill_customer_names() -- %s", text));
}

/// Waits for `pause`, however often the latch is set meanwhile.
void sleep_between(const Interval* pause) {
  const double seconds = DatumGetFloat8(
      DirectFunctionCall2(interval_part, CStringGetTextDatum("epoch"), IntervalPGetDatum(pause)));
  const TimestampTz start = GetCurrentTimestamp();
  for (;;) {
    CHECK_FOR_INTERRUPTS();
    const double passed = static_cast<double>(GetCurrentTimestamp() - start) / USECS_PER_SEC;
    if (passed >= seconds) return;
    const double milliseconds = std::min((seconds - passed) * 1000.0 + 1.0, 3600.0 * 1000.0);
    (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
                    static_cast<long>(milliseconds), PG_WAIT_EXTENSION);
    ResetLatch(MyLatch);
  }
}

void require_maintenance(const Store& store) {
  if (store.layout.index < 3)
    ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
            errmsg("the store has layout %s, names are split from 1.3 on",
                   core::layouts[store.layout.index].data()),
            errhint("ALTER EXTENSION order_proc UPDATE TO '1.3';"));
  require_store_owner(store, "backfill it");
}

void describe_backfill(void*) {
  errcontext("backfill of customers' names");
  if (geterrcode() == ERRCODE_LOCK_NOT_AVAILABLE)
    errhint(
        "CALL order_proc.backfill_customer_names(); again: it goes on where it was. "
        "pg_catalog.pg_stat_activity shows which transaction has been open for long.");
}

/// Acts as the owner of the store: his triggers must not run with the rights of whoever calls.
template <typename F>
void as_owner_of(const Store& store, F&& body) {
  ErrorContextCallback context{};
  context.callback = describe_backfill;
  context.previous = error_context_stack;
  error_context_stack = &context;
  pg::execute("SET CONSTRAINTS ALL IMMEDIATE");
  pg::as_store_owner(store.owner, [&] {
    pg::execute("SET CONSTRAINTS ALL IMMEDIATE");
    body();
  });
  error_context_stack = context.previous;
}

struct BatchResult {
  int64 filled;
  pg::Value last_id;
};

BatchResult fill_batch(const Store& store, int64 from, int batch_size) {
  BatchResult result{};
  as_owner_of(store, [&] {
    // How many rows are left to fill in is what statistics know least about, above all of columns
    // that are new: a batch must not scan and sort all of the table for the sake of an estimate.
    for (const char* setting : {"enable_seqscan", "enable_bitmapscan", "enable_sort"})
      pg::set_for_nest_level(setting, "off");
    (store.layout.has_name() ? next_batch : next_joined_batch)
        .run(store.layout.index,
             {pg::Value(Int64GetDatum(from)), pg::Value(Int64GetDatum(batch_size))});
    result = {DatumGetInt64(pg::result(0, 0).datum), pg::result(0, 1)};
    SPI_freetuptable(SPI_tuptable);
  });
  return result;
}

/// Each transaction looks at the store anew: it may have been migrated, or have changed hands,
/// meanwhile.
const Store& store_to_backfill() {
  const Store& store = open_store_at_any_layout();
  require_maintenance(store);
  require_one_owner(store);
  return store;
}

/// Parts at layout 1.3; later the name, while it is there again with the trigger that keeps it in
/// step (a column of that name and nothing else is the owner's own).
bool has_names_to_fill(const Store& store) {
  const Oid customers = store.table(Table::customers);
  return store.layout.has_name() || (get_attnum(customers, "name") != InvalidAttrNumber &&
                                     has_trigger(customers, "sync_customer_name"));
}

Progress count_names() {
  Progress progress{0, 0, 0, GetCurrentTimestamp(), GetCurrentTimestamp()};
  const Store& store = store_to_backfill();
  as_owner_of(store, [&] {
    (store.layout.has_name() ? count_left : count_joined_left).run(store.layout.index, {});
    progress.total = DatumGetInt64(pg::result(0, 0).datum);
    progress.done_before = progress.total - DatumGetInt64(pg::result(0, 1).datum);
    SPI_freetuptable(SPI_tuptable);
  });
  SPI_commit();
  return progress;
}

/// Waits for a row that the passes left, if there is one.
bool any_left_behind(const Store& store) {
  bool any = false;
  as_owner_of(store, [&] {
    any = (store.layout.has_name() ? any_left : any_joined_left).run(store.layout.index, {}) > 0;
    SPI_freetuptable(SPI_tuptable);
  });
  SPI_commit();
  return any;
}

/// Made again when somebody dropped it. Validation holds up neither readers nor writers, and who
/// waits for its lock neither: so it may take longer than 200 ms to get it.
void validate_names(const NameCheck& check) {
  const Store& store = store_to_backfill();
  const Oid customers = store.table(Table::customers);
  if (!has_names_to_fill(store)) return;
  if (!validated(customers, check))
    as_owner_of(store, [&] {
      if (!OidIsValid(get_relation_constraint_oid(customers, check.name, true)))
        pg::execute(
            psprintf("ALTER TABLE order_store.customers ADD CONSTRAINT %s CHECK (%s) NOT "
                     "VALID",
                     check.name, check.condition));
      pg::set_for_nest_level("lock_timeout", "10s");
      pg::execute(psprintf("ALTER TABLE order_store.customers VALIDATE CONSTRAINT %s", check.name));
    });
  SPI_commit();
}

/// The CHECKs that spare the steps to 1.4 and back the look at every row.
void validate_names() {
  validate_names(parts_there);
  if (!store_to_backfill().layout.has_name()) validate_names(name_there);
}

/// A pass over the table, each batch a transaction; whether there was anything to fill in.
bool pass(Progress& progress, int batch_size, const Interval* pause) {
  bool found = false;
  for (int64 from = PG_INT64_MIN;;) {
    const Store& store = store_to_backfill();
    if (!has_names_to_fill(store)) return false;
    const BatchResult batch = fill_batch(store, from, batch_size);
    SPI_commit();
    if (batch.filled == 0) return found;
    found = true;
    progress.filled += batch.filled;
    report(progress, false);
    if (pg_add_s64_overflow(DatumGetInt64(batch.last_id.datum), 1, &from)) return found;
    sleep_between(pause);
  }
}

/// Passes over the table until nothing is left.
void backfill(int batch_size, const Interval* pause) {
  Progress progress = count_names();
  do {
    while (pass(progress, batch_size, pause)) continue;
  } while (has_names_to_fill(store_to_backfill()) && any_left_behind(store_to_backfill()));
  validate_names();
  report(progress, true);
}

}  // namespace

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_backfill_customer_names);
Datum order_proc_backfill_customer_names(PG_FUNCTION_ARGS) {
  const pg::Args args(fcinfo);
  const int batch_size = args.get_int32(0, "batch_size");
  const Interval* const pause = DatumGetIntervalP(args.datum(1, "pause"));
  if (batch_size < 1)
    ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
            errmsg("batch_size must be positive: %d", batch_size), errhint("The default is 1000."));
  if (DatumGetBool(DirectFunctionCall2(
          interval_lt, IntervalPGetDatum(pause),
          IntervalPGetDatum(static_cast<Interval*>(palloc0(sizeof(Interval)))))))
    ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("pause must not be negative"),
            errhint("The default is '0'."));
  const Store& store = open_store_at_any_layout();
  require_maintenance(store);
  if (!has_names_to_fill(store)) PG_RETURN_VOID();
  const auto* const call = reinterpret_cast<const CallContext*>(fcinfo->context);
  if (call == nullptr || !IsA(call, CallContext) || call->atomic)
    ereport(ERROR, errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
            errmsg("backfill_customer_names commits batch by batch and cannot run inside a "
                   "transaction block"),
            errhint("CALL order_proc.backfill_customer_names(); outside BEGIN."));
  SPI_connect_ext(SPI_OPT_NONATOMIC);
  backfill(batch_size, pause);
  SPI_finish();
  PG_RETURN_VOID();
}

}  // extern "C"

}  // namespace order_proc
