#include "pg/spi.hpp"

#include "core/layout.hpp"

namespace order_proc::pg {

namespace {

uint64 plan_generation = 1;

struct Fragment {
  std::string_view name;
  const char* (*text)(core::Layout layout);
};

/// What differs between layouts, in one place.
constexpr std::array fragments{
    Fragment{"notes",
             [](core::Layout layout) {
               return layout.has_notes() ? "o.notes" : "NULL::pg_catalog.text";
             }},
    Fragment{"notes_column",
             [](core::Layout layout) { return layout.has_notes() ? ", notes" : ""; }},
    Fragment{"notes_value", [](core::Layout layout) { return layout.has_notes() ? ", $7" : ""; }},
    Fragment{"customer_names",
             [](core::Layout layout) {
               return layout.has_name() ? "c.name, NULL::pg_catalog.text"
                                        : "c.first_name, c.last_name";
             }},
    Fragment{"name_columns",
             [](core::Layout layout) {
               if (!layout.has_name_parts()) return ", name";
               return layout.has_name() ? ", name, first_name, last_name"
                                        : ", first_name, last_name";
             }},
    Fragment{"name_values",
             [](core::Layout layout) {
               if (!layout.has_name_parts()) return ", $3";
               return layout.has_name() ? ", $3, $4, $5" : ", $4, $5";
             }},
    Fragment{
        "order_columns",
        [](core::Layout layout) {
          return layout.has_notes()
                     ? "o.id, o.customer_id, o.status, o.total_amount, o.notes, o.customer_name, "
                       "o.customer_email, o.created_at, o.updated_at"
                     : "o.id, o.customer_id, o.status, o.total_amount, NULL::pg_catalog.text, "
                       "o.customer_name, "
                       "o.customer_email, o.created_at, o.updated_at";
        }},
};

const char* expand(const char* sql, core::Layout layout) {
  StringInfoData expanded;
  initStringInfo(&expanded);
  for (std::string_view rest{sql}; !rest.empty();) {
    const auto open = std::min(rest.find('{'), rest.size());
    appendBinaryStringInfo(&expanded, rest.data(), static_cast<int>(open));
    rest.remove_prefix(open);
    if (rest.empty()) break;
    const auto close = rest.find('}');
    const std::string_view name{rest.data() + 1, close - 1};
    for (const auto& fragment : fragments)
      if (fragment.name == name) appendStringInfoString(&expanded, fragment.text(layout));
    rest.remove_prefix(close + 1);
  }
  return expanded.data;
}

}  // namespace

void forget_plans() {
  ++plan_generation;
}

SPIPlanPtr Statement::prepared(std::size_t layout) {
  if (plan_ != nullptr && layout_ == layout && generation_ == plan_generation) return plan_;
  const uint64 generation = plan_generation;
  SPIPlanPtr plan =
      SPI_prepare_cursor(expand(sql_, core::Layout{layout}), static_cast<int>(parameters_),
                         types_.data(), cursor_options_);
  if (plan == nullptr || SPI_keepplan(plan) != 0)
    elog(ERROR, "could not prepare \"%s\": %s", sql_, SPI_result_code_string(SPI_result));
  if (plan_ != nullptr) SPI_freeplan(plan_);
  plan_ = plan;
  layout_ = layout;
  generation_ = generation;
  return plan_;
}

namespace {

struct Parameters {
  std::array<Datum, Statement::most_parameters> values;
  std::array<char, Statement::most_parameters> nulls;

  explicit Parameters(std::initializer_list<Value> given) {
    std::size_t i = 0;
    for (const Value& value : given) {
      values[i] = value.datum;
      nulls[i++] = value.null ? 'n' : ' ';
    }
  }
};

}  // namespace

uint64 Statement::run(std::size_t layout, std::initializer_list<Value> values, bool read_only) {
  Parameters parameters(values);
  const int result = SPI_execute_plan(prepared(layout), parameters.values.data(),
                                      parameters.nulls.data(), read_only, 0);
  if (result < 0) elog(ERROR, "could not run \"%s\": %s", sql_, SPI_result_code_string(result));
  return SPI_processed;
}

void Statement::run_into(std::size_t layout, std::initializer_list<Value> values,
                         DestReceiver* receiver) {
  const ParamListInfo parameters = makeParamList(static_cast<int>(parameters_));
  std::size_t i = 0;
  for (const Value& value : values) {
    parameters->params[i] = {value.datum, value.null, PARAM_FLAG_CONST, types_[i]};
    ++i;
  }
  SPIExecuteOptions options{};
  options.params = parameters;
  options.read_only = true;
  options.dest = receiver;
  const int result = SPI_execute_plan_extended(prepared(layout), &options);
  if (result < 0) elog(ERROR, "could not run \"%s\": %s", sql_, SPI_result_code_string(result));
}

ErrorData* commit_or_error() {
  const MemoryContext memory = CurrentMemoryContext;
  ErrorData* volatile error = nullptr;
  PG_TRY();
  { SPI_commit(); }
  PG_CATCH();
  {
    // SPI has begun the next transaction.
    MemoryContextSwitchTo(memory);
    error = CopyErrorData();
    FlushErrorState();
  }
  PG_END_TRY();
  return error;
}

void execute(const char* command) {
  const int result = SPI_execute(command, false, 0);
  if (result < 0) elog(ERROR, "could not run \"%s\": %s", command, SPI_result_code_string(result));
}

}  // namespace order_proc::pg
