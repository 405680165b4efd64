// Slots of customers and ids of orders.
#pragma once

#include "store.hpp"

namespace order_proc {

/// 0..4095, by the placement of the store.
int slot_of_customer(const Store& store, int64 customer_id);

/// The next id for an order of the customer; asks for the caller's right on the sequence.
int64 next_order_id(const Store& store, int64 customer_id);

}  // namespace order_proc
