// Prices and totals: what the numeric columns of orders and items store.
#pragma once

#include "pg/numeric.hpp"

namespace order_proc {

/// The columns as the store makes them, and the most hundredths they hold.
inline constexpr int32 price_typmod = pg::numeric_typmod(10, 2);
inline constexpr int32 total_typmod = pg::numeric_typmod(12, 2);
inline constexpr int64 most_price = 9999999999;
inline constexpr int64 most_total = 999999999999;

/// An amount as its column stores it: rounded half away from zero.
struct Amount {
  Datum stored;
  std::optional<int64>
      hundredths;  ///< unknown where the owner gave the column another type modifier
};

enum class AmountFault { none, not_a_number, negative, out_of_range };

struct AmountCheck {
  AmountFault fault;
  Amount amount;  ///< when there is no fault
};

/// Whether `value` (numeric) is an amount for a column with `typmod`. For the store's own type
/// modifiers nothing is raised; for others a value out of range raises 22003.
AmountCheck check_amount(Datum value, int32 typmod);

/// quantity * price over all items, exactly.
class Total {
 public:
  void add(int32 quantity, const Amount& price);

  /// The sum, unrounded.
  Datum sum() const;

 private:
  __int128 hundredths_ = 0;
  Datum rest_ = 0;  ///< numeric; of amounts whose hundredths are not known
};

}  // namespace order_proc
