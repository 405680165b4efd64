// SQL from inside: statements prepared once a session and kept, run in the scope of with_spi. Texts
// are constants; values travel as parameters. Names in them are qualified, so the caller's
// search_path is harmless, and user code that a statement fires sees the search_path of the caller,
// as in plain SQL.
#pragma once

#include "pg/postgres.hpp"

namespace order_proc::pg {

/// A parameter or a column: a value of a known type, or NULL.
struct Value {
  Datum datum = 0;
  bool null = true;
  Value() = default;
  explicit Value(Datum value) : datum(value), null(false) {}
  Value(Datum value, bool is_null) : datum(value), null(is_null) {}
};

/// Makes every Statement be planned anew at its next use. A plan does not always hear of DDL: one
/// that a rule made empty hangs on no table.
void forget_plans();

/// A statement of ours. `{name}` in the text stands for a fragment that depends on the layout of
/// the store (see expand in spi.cpp); the plan is made anew when the layout is another one. Declare
/// it static.
class Statement {
 public:
  static constexpr std::size_t most_parameters = 9;

  template <typename... Types>
  constexpr explicit Statement(const char* sql, Types... types)
      : sql_(sql), types_{static_cast<Oid>(types)...}, parameters_(sizeof...(Types)) {}

  /// More planning each time, for plans that hinge on the values (LIMIT, selective filters).
  constexpr Statement planned_each_time() const {
    Statement other = *this;
    other.cursor_options_ = CURSOR_OPT_CUSTOM_PLAN;
    return other;
  }

  /// Inside with_spi. Returns the rows processed; rows returned are in SPI_tuptable. read_only:
  /// with the active snapshot instead of one that sees everything done so far.
  uint64 run(std::size_t layout, std::initializer_list<Value> values, bool read_only = false);

  /// The same, rows go to `receiver`, nothing is gathered in memory.
  void run_into(std::size_t layout, std::initializer_list<Value> values, DestReceiver* receiver);

 private:
  SPIPlanPtr prepared(std::size_t layout);

  const char* sql_;
  std::array<Oid, most_parameters> types_;
  std::size_t parameters_;
  int cursor_options_ = 0;
  SPIPlanPtr plan_ = nullptr;
  std::size_t layout_ = 0;
  uint64 generation_ = 0;  ///< of forget_plans
};

/// SPI_connect, body, SPI_finish. What the body returns must not live in SPI's memory: see keep().
template <typename F>
auto with_spi(F&& body) {
  static_assert(Jumpable<std::remove_reference_t<F>> && Jumpable<std::invoke_result_t<F>>);
  SPI_connect();
  if constexpr (std::is_void_v<std::invoke_result_t<F>>) {
    body();
    SPI_finish();
  } else {
    const auto result = body();
    SPI_finish();
    return result;
  }
}

/// Column `column` (from 0) of row `row` of the last result.
inline Value result(uint64 row, int column) {
  bool null;
  const Datum datum =
      SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column + 1, &null);
  return {datum, null};
}

/// Commits the transaction of a procedure and begins the next one. What COMMIT raised, null when it
/// went well.
ErrorData* commit_or_error();

/// Runs a command text that is a constant of ours or a stored migration step.
void execute(const char* command);

}  // namespace order_proc::pg
