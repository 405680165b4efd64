// The items of an order as JSON text; both paths write them with this, so the text is the same.
#pragma once

#include "pg/spi.hpp"

namespace order_proc {

struct ItemColumns {
  pg::Value id;
  pg::Value product_id;
  pg::Value quantity;
  pg::Value price;
};

void begin_items(StringInfo json);
void append_item(StringInfo json, const ItemColumns& item);
void end_items(StringInfo json);

}  // namespace order_proc
