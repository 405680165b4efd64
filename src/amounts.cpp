#include "amounts.hpp"

namespace order_proc {

namespace {

bool is_negative(Numeric number) {
  return DatumGetBool(DirectFunctionCall2(numeric_lt, NumericGetDatum(number),
                                          NumericGetDatum(int64_to_numeric(0))));
}

}  // namespace

AmountCheck check_amount(Datum value, int64 most) {
  const auto exact = pg::to_hundredths(value);
  if (exact) {
    if (exact->count < 0) return {AmountFault::negative, {}};
    if (exact->count > most) return {AmountFault::out_of_range, {}};
    return {AmountFault::none,
            {exact->scale == 2 ? value : pg::from_hundredths(exact->count), exact->count}};
  }
  const Numeric number = DatumGetNumeric(value);
  if (numeric_is_nan(number)) return {AmountFault::not_a_number, {}};
  if (numeric_is_inf(number))
    return {is_negative(number) ? AmountFault::negative : AmountFault::out_of_range, {}};
  // More than two decimals, or huge: rounded by PostgreSQL to a numeric with two.
  const Datum rounded =
      DirectFunctionCall2(numeric_round, NumericGetDatum(number), Int32GetDatum(2));
  const auto count = pg::to_hundredths(rounded);
  if (count && count->count >= 0 && count->count <= most)
    return {AmountFault::none, {rounded, count->count}};
  return {is_negative(number) ? AmountFault::negative : AmountFault::out_of_range, {}};
}

}  // namespace order_proc
