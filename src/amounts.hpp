// Prices and totals: what the numeric(p,2) columns of orders and items store.
#pragma once

#include "pg/numeric.hpp"

namespace order_proc {

inline constexpr int64 most_price = 9999999999;    ///< hundredths in numeric(10,2)
inline constexpr int64 most_total = 999999999999;  ///< hundredths in numeric(12,2)

/// An amount as such a column stores it: rounded half away from zero.
struct Amount {
  Datum stored;
  int64 hundredths;
};

enum class AmountFault { none, not_a_number, negative, out_of_range };

struct AmountCheck {
  AmountFault fault;
  Amount amount;  ///< when there is no fault
};

/// Whether `value` (numeric) fits between zero and `most` hundredths.
AmountCheck check_amount(Datum value, int64 most);

}  // namespace order_proc
