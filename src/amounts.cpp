#include "amounts.hpp"

namespace order_proc {

namespace {

bool is_negative(Numeric number) {
  return DatumGetBool(DirectFunctionCall2(numeric_lt, NumericGetDatum(number),
                                          NumericGetDatum(int64_to_numeric(0))));
}

AmountCheck in_range(Datum stored, int64 hundredths, int64 most) {
  if (hundredths < 0) return {AmountFault::negative, {}};
  if (hundredths > most) return {AmountFault::out_of_range, {}};
  return {AmountFault::none, {stored, hundredths}};
}

/// A column of the owner's making: PostgreSQL rounds, and raises what is out of range.
AmountCheck check_otherwise(Numeric number, int32 typmod) {
  const Datum stored =
      typmod < 0 ? NumericGetDatum(number) : pg::rounded_to(NumericGetDatum(number), typmod);
  if (is_negative(DatumGetNumeric(stored))) return {AmountFault::negative, {}};
  return {AmountFault::none, {stored, std::nullopt}};
}

}  // namespace

AmountCheck check_amount(Datum value, int32 typmod) {
  const bool ours = typmod == price_typmod || typmod == total_typmod;
  const int64 most = typmod == price_typmod ? most_price : most_total;
  const auto exact = ours ? pg::to_hundredths(value) : std::nullopt;
  if (exact)
    return in_range(exact->scale == 2 ? value : pg::from_hundredths(exact->count), exact->count,
                    most);
  const Numeric number = DatumGetNumeric(value);
  if (numeric_is_nan(number)) return {AmountFault::not_a_number, {}};
  if (numeric_is_inf(number))
    return {is_negative(number) ? AmountFault::negative : AmountFault::out_of_range, {}};
  if (!ours) return check_otherwise(number, typmod);
  // More than two decimals, or huge: rounded by PostgreSQL to a numeric with two.
  const Datum rounded =
      DirectFunctionCall2(numeric_round, NumericGetDatum(number), Int32GetDatum(2));
  const auto count = pg::to_hundredths(rounded);
  if (count) return in_range(rounded, count->count, most);
  return {is_negative(number) ? AmountFault::negative : AmountFault::out_of_range, {}};
}

void Total::add(int32 quantity, const Amount& price) {
  if (price.hundredths) {
    hundredths_ += static_cast<__int128>(quantity) * *price.hundredths;
    return;
  }
  const Datum line =
      DirectFunctionCall2(numeric_mul, NumericGetDatum(int64_to_numeric(quantity)), price.stored);
  rest_ = rest_ == 0 ? line : DirectFunctionCall2(numeric_add, rest_, line);
}

Datum Total::sum() const {
  if (rest_ != 0) return rest_;
  // Up to 10^18 hundredths in one piece, beyond that in two: 2^31 items of the highest price fit.
  constexpr int64 piece = 1000000000000000000;
  if (hundredths_ <= piece) return pg::from_hundredths(static_cast<int64>(hundredths_));
  const Datum high = DirectFunctionCall2(
      numeric_mul, NumericGetDatum(int64_to_numeric(static_cast<int64>(hundredths_ / piece))),
      NumericGetDatum(int64_to_numeric(piece / 100)));
  return DirectFunctionCall2(numeric_add, high,
                             pg::from_hundredths(static_cast<int64>(hundredths_ % piece)));
}

}  // namespace order_proc
