// Migrations: a step between two neighbouring layouts is a function
// order_proc.layout_<version>_<direction> that returns its statements; the upgrade scripts register
// both directions. Here they are listed (the plan), run as the owner of the store, and written into
// its history.
//
// Memory: the caller's. On ERROR the transaction takes everything back.
#include "migration.hpp"

#include "names.hpp"
#include "pg/args.hpp"
#include "pg/error.hpp"
#include "pg/spi.hpp"
#include "pg/srf.hpp"
#include "pg/user.hpp"

namespace order_proc {

namespace {

enum class Direction { up, down };

constexpr const char* name_of(Direction direction) {
  return direction == Direction::up ? "up" : "down";
}

/// A step: to `version` from the layout below it (up), or back to the layout below it (down).
struct Step {
  std::size_t version;
  Direction direction;

  std::size_t from() const { return direction == Direction::up ? version - 1 : version; }
  std::size_t to() const { return direction == Direction::up ? version : version - 1; }
};

/// layout_1_4_up
const char* function_name(Step step) {
  char* const name =
      psprintf("layout_%s_%s", core::layouts[step.version].data(), name_of(step.direction));
  std::replace(name, name + std::string_view(name).size(), '.', '_');
  return name;
}

struct Statement {
  const char* phase;
  const char* text;
};

struct Statements {
  Statement* list;
  uint64 count;
};

/// The statements of a step, in order, in the caller's memory. Inside with_spi.
Statements statements_of(Step step, MemoryContext memory) {
  pg::execute(psprintf("SELECT s.phase, s.statement FROM order_proc.%s() AS s ORDER BY s.step",
                       function_name(step)));
  const MemoryContext saved = MemoryContextSwitchTo(memory);
  Statements statements{static_cast<Statement*>(palloc0(sizeof(Statement) * (SPI_processed + 1))),
                        SPI_processed};
  for (uint64 row = 0; row < statements.count; ++row)
    statements.list[row] = {TextDatumGetCString(pg::result(row, 0).datum),
                            TextDatumGetCString(pg::result(row, 1).datum)};
  MemoryContextSwitchTo(saved);
  SPI_freetuptable(SPI_tuptable);
  return statements;
}

/// Runs the statements of `step` that belong to a phase in `phases`. As the owner, inside with_spi.
void run_statements(Step step, std::initializer_list<std::string_view> phases) {
  const Statements statements = statements_of(step, CurrentMemoryContext);
  for (uint64 i = 0; i < statements.count; ++i) {
    const auto [phase, text] = statements.list[i];
    if (std::find(phases.begin(), phases.end(), phase) == phases.end()) continue;
    // A deferred constraint of the user's would queue events that neither this role nor ALTER TABLE
    // can take.
    pg::execute("SET CONSTRAINTS ALL IMMEDIATE");
    pg::execute(text);
    CHECK_FOR_INTERRUPTS();
  }
  pg::execute("SET CONSTRAINTS ALL IMMEDIATE");
}

pg::Statement set_layout{"UPDATE order_store.store SET layout = $1", TEXTOID};
pg::Statement add_history{
    "INSERT INTO order_store.migrations (version, direction, applied_by, duration) VALUES ($1, $2, "
    "$3, $4)",
    TEXTOID, TEXTOID, TEXTOID, INTERVALOID};
pg::Statement add_store{"INSERT INTO order_store.store (layout, placement) VALUES ($1, $2)",
                        TEXTOID, TEXTOID};

Datum text_of(std::string_view value) {
  return PointerGetDatum(cstring_to_text_with_len(value.data(), static_cast<int>(value.size())));
}

void write_history(std::size_t layout, Direction direction, const char* by, TimestampTz start) {
  const Datum duration = DirectFunctionCall2(
      timestamp_mi, TimestampTzGetDatum(GetCurrentTimestamp()), TimestampTzGetDatum(start));
  add_history.run(
      0, {pg::Value(text_of(core::layouts[layout])), pg::Value(text_of(name_of(direction))),
          pg::Value(text_of(by)), pg::Value(duration)});
}

const char* caller_name() {
  return GetUserNameFromId(GetUserId(), false);
}

void describe_step(void* argument) {
  const Step step = *static_cast<const Step*>(argument);
  errcontext("migration of the store from layout %s to %s", core::layouts[step.from()].data(),
             core::layouts[step.to()].data());
  // errcode is not known to callbacks of old servers but through geterrcode().
  if (geterrcode() == ERRCODE_LOCK_NOT_AVAILABLE)
    errhint(
        "Nothing was changed. Run the rows of order_proc.migration_plan('%s') with phase "
        "prepare first, then try again; pg_catalog.pg_stat_activity shows which transaction "
        "has been open for long.",
        core::layouts[step.to()].data());
}

/// Runs `body` with errors saying which step they happened in, and what to do about a lock.
template <typename F>
void during(Step step, F&& body) {
  ErrorContextCallback context{};
  context.callback = describe_step;
  context.arg = &step;
  context.previous = error_context_stack;
  error_context_stack = &context;
  body();
  error_context_stack = context.previous;
}

/// Takes one step of a store that is exactly at its beginning. Inside with_spi.
void take(Step step, Oid owner) {
  const char* const by = caller_name();
  const TimestampTz start = GetCurrentTimestamp();
  during(step, [&] {
    require_one_owner(open_store_at_any_layout());
    // Events of the caller's own rights are settled with them.
    pg::execute("SET CONSTRAINTS ALL IMMEDIATE");
    pg::as_store_owner(owner, [&] {
      run_statements(step, {"change", "attach"});
      set_layout.run(0, {pg::Value(text_of(core::layouts[step.to()]))});
      write_history(step.to(), step.direction, by, start);
    });
  });
  invalidate_store();
  CommandCounterIncrement();
}

/// Whether the extension was made by the present transaction: its first function was.
bool being_installed() {
  const List* const name =
      list_make2(makeString(pstrdup("order_proc")), makeString(pstrdup("layout_1_0_up")));
  const Oid function = LookupFuncName(const_cast<List*>(name), 0, nullptr, true);
  const HeapTuple row = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
  if (!HeapTupleIsValid(row)) return false;
  const bool made = TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(row->t_data));
  ReleaseSysCache(row);
  return made;
}

/// Nobody else may migrate the store until the end of the transaction.
void lock_store(const Store& store) {
  pg::with_locked_settings(
      [&] { LockRelationOid(store.table(Table::store), ShareRowExclusiveLock); });
}

std::optional<Step> neighbouring(std::size_t from, std::size_t to) {
  if (to == from + 1) return Step{to, Direction::up};
  if (from == to + 1) return Step{from, Direction::down};
  return std::nullopt;
}

std::size_t known_layout(std::string_view version, const char* name) {
  const auto index = core::layout_index(version);
  if (!index)
    ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
            errmsg("unknown %s \"%s\"", name, pg::shown(version)),
            errhint("Layouts go from %s to %s.", core::layouts.front().data(),
                    core::layouts.back().data()));
  return *index;
}

/// Runs again what DROP EXTENSION ... CASCADE took: idempotent statements only.
void attach(const Store& store) {
  if (!lacks_triggers(store)) return;
  require_one_owner(store);
  pg::as_store_owner(store.owner, [&] {
    for (std::size_t version = 0; version <= store.layout.index; ++version)
      run_statements({version, Direction::up}, {"attach"});
  });
  invalidate_store();
  CommandCounterIncrement();
}

}  // namespace

void attach_triggers(std::size_t version, Oid owner) {
  pg::as_store_owner(owner, [&] { run_statements({version, Direction::up}, {"attach"}); });
}

void make_store(Oid owner, core::Placement placement, const char* placement_check) {
  const char* const by = caller_name();
  const TimestampTz start = GetCurrentTimestamp();
  pg::as_store_owner(owner, [&] {
    run_statements({0, Direction::up}, {"change", "attach"});
    pg::execute(placement_check);
    add_store.run(
        0, {pg::Value(text_of(core::layouts[0])), pg::Value(text_of(core::name_of(placement)))});
    write_history(0, Direction::up, by, start);
  });
  CommandCounterIncrement();
  invalidate_store();
  const std::size_t installed = extension_layout();
  for (std::size_t version = 1; version <= installed; ++version)
    take({version, Direction::up}, owner);
}

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_apply_migration);
Datum order_proc_apply_migration(PG_FUNCTION_ARGS) {
  const pg::Args args(fcinfo);
  const std::size_t from = known_layout(args.get_text(0, "from_version").view(), "from_version");
  const std::size_t to = known_layout(args.get_text(1, "to_version").view(), "to_version");
  const auto step = neighbouring(from, to);
  if (!step)
    ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
            errmsg("layouts %s and %s are not neighbours", core::layouts[from].data(),
                   core::layouts[to].data()),
            errhint("ALTER EXTENSION order_proc UPDATE;"));
  if (!creating_extension)
    ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
            errmsg("apply_migration is for the scripts of the extension"),
            errhint("ALTER EXTENSION order_proc UPDATE;"));
  if (!store_schema_exists()) PG_RETURN_VOID();
  // Other sessions compare the layout with the version of the extension, which changes even if no
  // step is due.
  invalidate_store();
  // CREATE EXTENSION leaves a store that is older than it alone: that is migrate_store's.
  if (!store_present() || (being_installed() && !store_made_in_this_transaction()))
    PG_RETURN_VOID();
  during(*step, [&] { lock_store(open_store_at_any_layout()); });
  const Store& store = open_store_at_any_layout();
  if (store.layout.index != from) PG_RETURN_VOID();
  const Oid owner = store.owner;
  pg::with_spi([&] { take(*step, owner); });
  PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(order_proc_migrate_store);
Datum order_proc_migrate_store(PG_FUNCTION_ARGS) {
  const pg::Args args(fcinfo);
  const std::size_t installed = extension_layout();
  const std::size_t target =
      args.null(0) ? installed : known_layout(args.get_text(0, "target").view(), "target");
  require_store_owner(open_store_at_any_layout(), "migrate it");
  lock_store(open_store_at_any_layout());
  const std::size_t layout = open_store_at_any_layout().layout.index;
  if (std::max(layout, target) > installed)
    ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
            errmsg("the extension is at version %s, older than %s", core::layouts[installed].data(),
                   core::layouts[std::max(layout, target)].data()),
            errhint("ALTER EXTENSION order_proc UPDATE TO '%s';",
                    core::layouts[std::max(layout, target)].data()));
  if (target < layout)
    ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
            errmsg("the store has layout %s, beyond %s", core::layouts[layout].data(),
                   core::layouts[target].data()),
            errhint("The way down is ALTER EXTENSION order_proc UPDATE TO '%s';",
                    core::layouts[target].data()));
  pg::with_spi([&] {
    for (std::size_t version = layout + 1; version <= target; ++version) {
      // A restored store has nobody to keep waiting: the names are filled in on the way.
      if (core::Layout{version}.has_name() != core::Layout{version - 1}.has_name())
        backfill_names_at_once(open_store_at_any_layout());
      take({version, Direction::up}, open_store_at_any_layout().owner);
    }
    attach(open_store_at_any_layout());
  });
  PG_RETURN_TEXT_P(cstring_to_text(core::layouts[target].data()));
}

}  // extern "C"

namespace {

/// The body of a step that is not installed yet, out of its script: what stands between its dollar
/// quotes.
const char* body_from_script(Step step) {
  char share[MAXPGPATH];
  get_share_path(my_exec_path, share);
  const char* const path =
      psprintf("%s/extension/order_proc--%s--%s.sql", share, core::layouts[step.version - 1].data(),
               core::layouts[step.version].data());
  FILE* const file = AllocateFile(path, PG_BINARY_R);
  if (file == nullptr)
    ereport(ERROR, errcode_for_file_access(), errmsg("could not open file \"%s\": %m", path),
            errhint("Install the package of order_proc that has version %s.",
                    core::layouts[step.version].data()));
  StringInfoData content;
  initStringInfo(&content);
  std::array<char, 8192> chunk;
  for (std::size_t read; (read = fread(chunk.data(), 1, chunk.size(), file)) > 0;)
    appendBinaryStringInfo(&content, chunk.data(), static_cast<int>(read));
  FreeFile(file);
  const std::string_view text{content.data, static_cast<std::size_t>(content.len)};
  const std::string_view quote{psprintf("$%s$", function_name(step))};
  const auto open = text.find(quote);
  const auto close = open == std::string_view::npos ? open : text.find(quote, open + quote.size());
  if (close == std::string_view::npos)
    ereport(ERROR, errcode(pg::store_mismatch),
            errmsg("file \"%s\" does not hold the step %s", path, function_name(step)),
            errhint("Install the package of order_proc anew."));
  return pnstrdup(text.data() + open + quote.size(), close - open - quote.size());
}

/// The statements of a step into the result, numbered on from `number`. Inside with_spi.
void list_step(const pg::ResultSet& results, Step step, std::size_t installed, int* number) {
  const char* const source = step.version <= installed
                                 ? psprintf("SELECT * FROM order_proc.%s()", function_name(step))
                                 : body_from_script(step);
  pg::execute(
      psprintf("SELECT s.phase, s.statement, s.lock_level, s.online, s.estimated_rows FROM (%s) "
               "AS s(step, phase, statement, lock_level, online, estimated_rows) ORDER BY s.step",
               source));
  for (uint64 row = 0; row < SPI_processed; ++row)
    results.add({pg::Value(Int32GetDatum(++*number)), pg::result(row, 0), pg::result(row, 1),
                 pg::result(row, 2), pg::result(row, 3), pg::result(row, 4)});
}

}  // namespace

extern "C" {

PG_FUNCTION_INFO_V1(order_proc_migration_plan);
Datum order_proc_migration_plan(PG_FUNCTION_ARGS) {
  const std::size_t target = known_layout(pg::Args(fcinfo).get_text(0, "target").view(), "target");
  const std::size_t layout = open_store_at_any_layout().layout.index;
  const std::size_t installed = extension_layout();
  const pg::ResultSet results(fcinfo);
  pg::with_spi([&] {
    pg::with_locked_settings([&] {
      int number = 0;
      for (std::size_t version = layout + 1; version <= target; ++version)
        list_step(results, {version, Direction::up}, installed, &number);
      for (std::size_t version = layout; version > target; --version)
        list_step(results, {version, Direction::down}, installed, &number);
    });
  });
  return results.done();
}

PG_FUNCTION_INFO_V1(order_proc_applied_migrations);
Datum order_proc_applied_migrations(PG_FUNCTION_ARGS) {
  static pg::Statement history{
      "SELECT m.id, m.version, m.direction, m.applied_at, m.applied_by, m.duration FROM "
      "order_store.migrations AS m "
      "ORDER BY m.id"};
  const Store& store = open_store_at_any_layout();
  const Oid owner = table_owner(store.table(Table::migrations));
  const pg::ResultSet results(fcinfo);
  pg::with_spi([&] { pg::as_user(owner, [&] { history.run_into(0, {}, results.receiver()); }); });
  return results.done();
}

}  // extern "C"

}  // namespace order_proc
