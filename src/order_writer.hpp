// Rows of orders, written by the path that the caller may take.
#pragma once

#include "fast_path_insert.hpp"

namespace order_proc {

/// Plain INSERT by the caller. Inside with_spi.
void insert_order_by_executor(const Store& store, const OrderValues& order);

/// Writes the orders and makes them visible to the next command. Their customers must be locked FOR
/// KEY SHARE: direct access does not look at them again. Errors are those of INSERT by the caller.
void write_orders(const Store& store, std::span<const OrderValues> orders);

}  // namespace order_proc
