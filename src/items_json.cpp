#include "items_json.hpp"

#include "core/json.hpp"
#include "pg/numeric.hpp"

namespace order_proc {

namespace {

/// A number that JSON can hold, else its text in quotes (NaN), as to_json does.
void append_price(StringInfo json, Datum price) {
  const auto amount = pg::to_hundredths(price);
  if (amount && amount->scale == 2) {
    enlargeStringInfo(json, core::max_number_length);
    char* const end = core::write_hundredths(json->data + json->len, amount->count);
    json->len = static_cast<int>(end - json->data);
    return;
  }
  const Numeric value = DatumGetNumeric(price);
  const char* const text =
      DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value)));
  const bool number = !numeric_is_nan(value) && !numeric_is_inf(value);
  appendStringInfo(json, number ? "%s" : "\"%s\"", text);
}

void append_or_null(StringInfo json, const char* key, const pg::Value& value, PGFunction to_text) {
  appendStringInfo(
      json, "%s%s", key,
      value.null ? "null" : DatumGetCString(DirectFunctionCall1(to_text, value.datum)));
}

}  // namespace

void begin_items(StringInfo json) {
  appendStringInfoChar(json, '[');
}

void append_item(StringInfo json, const ItemColumns& item) {
  if (json->data[json->len - 1] != '[') appendStringInfoChar(json, ',');
  if (item.id.null || item.product_id.null || item.quantity.null || item.price.null) {
    // Only after the owner took the NOT NULLs away.
    append_or_null(json, "{\"id\":", item.id, int8out);
    append_or_null(json, ",\"product_id\":", item.product_id, int8out);
    append_or_null(json, ",\"quantity\":", item.quantity, int4out);
    appendStringInfoString(json, ",\"price\":");
  } else {
    enlargeStringInfo(json, core::max_item_head_length);
    char* const end = core::write_item_head(json->data + json->len, DatumGetInt64(item.id.datum),
                                            DatumGetInt64(item.product_id.datum),
                                            DatumGetInt32(item.quantity.datum));
    json->len = static_cast<int>(end - json->data);
  }
  if (item.price.null)
    appendStringInfoString(json, "null");
  else
    append_price(json, item.price.datum);
  appendStringInfoChar(json, '}');
}

void end_items(StringInfo json) {
  appendStringInfoChar(json, ']');
}

}  // namespace order_proc
