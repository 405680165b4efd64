#include "pg/user_sql.hpp"

#include "pg/error.hpp"
#include "pg/user.hpp"

extern "C" {
#include "parser/analyze.h"
#include "tcop/cmdtag.h"
}

namespace order_proc::pg {

namespace {

Node* only_statement(const char* sql) {
  const List* const statements = raw_parser(sql, RAW_PARSE_DEFAULT);
  if (list_length(statements) != 1)
    ereport(ERROR, errcode(ERRCODE_SYNTAX_ERROR),
            errmsg("one statement is needed, not %d", list_length(statements)),
            errhint("Call the function once for each statement."));
  return linitial_node(RawStmt, statements)->stmt;
}

[[noreturn]] void refuse(Node* statement, const char* hint) {
  ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
          errmsg("%s is not allowed here", GetCommandTagName(CreateCommandTag(statement))),
          errhint("%s", hint));
}

}  // namespace

Node* require_query(const char* sql) {
  Node* const statement = only_statement(sql);
  constexpr const char* hint = "Give one SELECT; order_proc.fan_out_exec runs commands.";
  const bool select = IsA(statement, SelectStmt);
  if (select ? castNode(SelectStmt, statement)->intoClause != nullptr
             : !IsA(statement, VariableShowStmt))
    refuse(statement, hint);
  return statement;
}

void require_command(const char* sql) {
  Node* const statement = only_statement(sql);
  switch (nodeTag(statement)) {
    case T_TransactionStmt:
    case T_VariableSetStmt:
    case T_ListenStmt:
    case T_UnlistenStmt:
    case T_NotifyStmt:
    case T_CopyStmt:
    case T_PrepareStmt:
    case T_ExecuteStmt:
    case T_DeallocateStmt:
    case T_DiscardStmt:
    case T_DeclareCursorStmt:
    case T_FetchStmt:
    case T_ClosePortalStmt:
    case T_LoadStmt:
    case T_CallStmt:
    case T_ConstraintsSetStmt:
      refuse(statement,
             "It would act on a session of its own, or end a transaction that is not its.");
    default:
      return;
  }
}

namespace {

[[noreturn]] void wrong_list(TupleDesc wanted, TupleDesc given) {
  StringInfoData list;
  initStringInfo(&list);
  for (int i = 0; i < given->natts; ++i)
    appendStringInfo(&list, "%s%s %s", i == 0 ? "" : ", ",
                     quote_identifier(NameStr(TupleDescAttr(given, i)->attname)),
                     format_type_be(TupleDescAttr(given, i)->atttypid));
  ereport(ERROR, errcode(ERRCODE_DATATYPE_MISMATCH),
          errmsg("the query returns other columns than the column definition list has (%d, %d)",
                 given->natts, wanted->natts),
          errdetail("The query returns: %s.", list.data),
          errhint("AS t(name type, ...) with these types."));
}

bool fits(TupleDesc wanted, TupleDesc given) {
  if (wanted->natts != given->natts) return false;
  for (int i = 0; i < wanted->natts; ++i)
    if (TupleDescAttr(wanted, i)->atttypid != TupleDescAttr(given, i)->atttypid) return false;
  return true;
}

struct Parameters {
  int count;
  Oid* types;
  Datum* values;
  char* nulls;
};

}  // namespace

void too_many_values(int given) {
  ereport(ERROR, errcode(ERRCODE_UNDEFINED_PARAMETER),
          errmsg("args has %d values, the query has fewer parameters", given),
          errhint("args => ARRAY['...'] has one value for each of $1, $2 ..."));
}

namespace {

/// Texts as the types that the query gives its parameters, as a server does with a client's.
Parameters resolve(const char* sql, std::span<const Value> texts) {
  Parameters it{static_cast<int>(texts.size()),
                static_cast<Oid*>(palloc0(sizeof(Oid) * (texts.size() + 1))),
                static_cast<Datum*>(palloc(sizeof(Datum) * (texts.size() + 1))),
                static_cast<char*>(palloc(texts.size() + 1))};
  RawStmt* const statement = linitial_node(RawStmt, raw_parser(sql, RAW_PARSE_DEFAULT));
  int known = 0;
  (void)parse_analyze_varparams(statement, sql, &it.types, &known, nullptr);
  for (int i = it.count; i < known; ++i)
    ereport(ERROR, errcode(ERRCODE_UNDEFINED_PARAMETER), errmsg("there is no value for $%d", i + 1),
            errhint("args => ARRAY['...'] has the values of $1, $2 ..."));
  if (known < it.count) too_many_values(it.count);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (!OidIsValid(it.types[i]))
      ereport(ERROR, errcode(ERRCODE_INDETERMINATE_DATATYPE),
              errmsg("could not determine data type of parameter $%d", static_cast<int>(i + 1)),
              errhint("Use it in the query, or number the parameters from $1 on."));
    it.nulls[i] = texts[i].null ? 'n' : ' ';
    Oid input;
    Oid parameter;
    getTypeInputInfo(it.types[i], &input, &parameter);
    it.values[i] = OidInputFunctionCall(
        input, texts[i].null ? nullptr : TextDatumGetCString(texts[i].datum), parameter, -1);
  }
  return it;
}

/// Moves all rows of a cursor, a thousand at a time.
void drain(Portal cursor, DestReceiver* receiver) {
  constexpr long rows_at_once = 1000;
  receiver->rStartup(receiver, CMD_SELECT, cursor->tupDesc);
  do {
    SPI_cursor_fetch(cursor, true, rows_at_once);
    TupleTableSlot* const slot = MakeSingleTupleTableSlot(cursor->tupDesc, &TTSOpsHeapTuple);
    for (uint64 row = 0; row < SPI_processed; ++row) {
      ExecStoreHeapTuple(SPI_tuptable->vals[row], slot, false);
      (void)receiver->receiveSlot(slot, receiver);
    }
    ExecDropSingleTupleTableSlot(slot);
    const bool more = SPI_processed > 0;
    SPI_freetuptable(SPI_tuptable);
    if (!more) break;
    CHECK_FOR_INTERRUPTS();
  } while (true);
}

}  // namespace

void read_only_query(const char* sql, std::span<const Value> texts, TupleDesc wanted,
                     DestReceiver* receiver) {
  const int nest_level = NewGUCNestLevel();
  set_for_nest_level("search_path", "pg_catalog, pg_temp");
  set_for_nest_level("transaction_read_only", "on");
  with_spi([&] {
    const Parameters parameters = resolve(sql, texts);
    const Portal cursor =
        SPI_cursor_open_with_args(nullptr, sql, parameters.count, parameters.types,
                                  parameters.values, parameters.nulls, false, 0);
    if (cursor->tupDesc == nullptr)
      ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("the query returns no rows"),
              errhint("Give one SELECT."));
    if (!fits(wanted, cursor->tupDesc)) wrong_list(wanted, cursor->tupDesc);
    drain(cursor, receiver);
    SPI_cursor_close(cursor);
  });
  AtEOXact_GUC(false, nest_level);
}

const char* run_command(const char* sql) {
  const MemoryContext memory = CurrentMemoryContext;
  const char* tag = nullptr;
  with_locked_path([&] {
    with_spi([&] {
      execute(sql);
      QueryCompletion completion;
      SetQueryCompletion(&completion, CreateCommandTag(only_statement(sql)), SPI_processed);
      std::array<char, COMPLETION_TAG_BUFSIZE> buffer;
      const char* const name = GetCommandTagName(completion.commandTag);
      if (!command_tag_display_rowcount(completion.commandTag))
        snprintf(buffer.data(), buffer.size(), "%s", name);
      else if (completion.commandTag == CMDTAG_INSERT)
        snprintf(buffer.data(), buffer.size(), "%s 0 " UINT64_FORMAT, name, completion.nprocessed);
      else
        snprintf(buffer.data(), buffer.size(), "%s " UINT64_FORMAT, name, completion.nprocessed);
      tag = MemoryContextStrdup(memory, buffer.data());
    });
  });
  return tag;
}

}  // namespace order_proc::pg
