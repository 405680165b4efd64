// Requests for orders as JSON: [{"customer_id": 1, "product_ids": [7], "quantities": [2], "prices":
// [9.99], ...}, ...], names and meanings of the arguments of create_order_with_items.
#pragma once

#include "create_order.hpp"
#include "pg/json.hpp"

namespace order_proc {

/// The document's array; 22023 for anything else.
JsonbValue order_list(Jsonb* document);

/// The request in an element of the list, in the current memory context. `number`: where it is, for
/// messages. Raises 22023 for what is no such object, 22004 for null where a value is needed, 22003
/// for numbers out of range.
OrderRequest read_order(const JsonbValue& element, int64 number);

}  // namespace order_proc
