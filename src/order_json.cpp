// Numbers are numeric from the document to the table. Values point into the document where they
// can, arrays are made in the current memory context.
#include "order_json.hpp"

#include "pg/error.hpp"
#include "pg/numeric.hpp"

namespace order_proc {

namespace {

constexpr const char* known_fields =
    "Fields of an order: customer_id, status, total_amount, product_ids, quantities, prices, "
    "notes, idempotency_key.";

/// A place in the document.
struct Place {
  int64 order;
  std::string_view field{};
  std::optional<std::size_t> element{};
};

/// orders[3].quantities[0]
const char* name_of(const Place& place) {
  StringInfoData name;
  initStringInfo(&name);
  appendStringInfo(&name, "orders[" INT64_FORMAT "]", place.order);
  if (!place.field.empty())
    appendStringInfo(&name, ".%.*s", static_cast<int>(place.field.size()), place.field.data());
  if (place.element) appendStringInfo(&name, "[%zu]", *place.element);
  return name.data;
}

[[noreturn]] void wrong_type(const Place& place, const char* wanted, const JsonbValue& given) {
  if (given.type == jbvNull) pg::null_argument(name_of(place));
  ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
          errmsg("%s must be %s, not %s", name_of(place), wanted,
                 JsonbTypeName(const_cast<JsonbValue*>(&given))),
          errhint("%s", known_fields));
}

[[noreturn]] void unknown_field(int64 order, std::string_view field) {
  ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
          errmsg("orders[" INT64_FORMAT "] has an unknown field \"%s\"", order, pg::shown(field)),
          errhint("%s", known_fields));
}

const char* number_text(Numeric number) {
  return pg::shown(DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(number))));
}

bool less(Numeric a, Numeric b) {
  return DatumGetBool(DirectFunctionCall2(numeric_lt, NumericGetDatum(a), NumericGetDatum(b)));
}

/// The bounds of an integer type.
struct Integers {
  const char* name;
  int64 least;
  int64 most;
};
constexpr Integers bigint{"bigint", PG_INT64_MIN, PG_INT64_MAX};
constexpr Integers integer{"integer", PG_INT32_MIN, PG_INT32_MAX};

int64 whole_number(const Place& place, const Integers& type, const JsonbValue& value) {
  if (value.type != jbvNumeric) wrong_type(place, "a number", value);
  const Numeric number = value.val.numeric;
  const auto exact = pg::to_hundredths(NumericGetDatum(number));
  if (exact && exact->count % 100 == 0 && exact->count / 100 >= type.least &&
      exact->count / 100 <= type.most)
    return exact->count / 100;
  if (less(number, int64_to_numeric(type.least)) || less(int64_to_numeric(type.most), number))
    ereport(ERROR, errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
            errmsg("%s is out of range for %s: %s", name_of(place), type.name, number_text(number)),
            errhint("It goes from " INT64_FORMAT " to " INT64_FORMAT ".", type.least, type.most));
  const auto whole = DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(number)));
  if (less(int64_to_numeric(whole), number) || less(number, int64_to_numeric(whole)))
    ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
            errmsg("%s is %s, which is no whole number", name_of(place), number_text(number)),
            errhint("Only prices and total_amount may have decimals."));
  return whole;
}

Datum amount(const Place& place, const JsonbValue& value) {
  if (value.type != jbvNumeric) wrong_type(place, "a number", value);
  return NumericGetDatum(value.val.numeric);
}

/// A text; null gives none.
pg::Text text_or_null(const Place& place, const JsonbValue& value) {
  if (value.type == jbvNull) return {};
  if (value.type != jbvString) wrong_type(place, "a string", value);
  const std::string_view string = pg::text_of(value);
  return {cstring_to_text_with_len(string.data(), static_cast<int>(string.size()))};
}

template <typename T, typename F>
std::span<T> elements(const Place& place, const JsonbValue& value, F&& convert) {
  if (!pg::is_array(value)) wrong_type(place, "an array", value);
  const std::size_t count = pg::size_of(value);
  auto* const list = static_cast<T*>(palloc_extended((count + 1) * sizeof(T), MCXT_ALLOC_HUGE));
  pg::for_each_element(value, [&](std::size_t i, const JsonbValue& element) {
    if ((i & 0xFFFF) == 0xFFFF) CHECK_FOR_INTERRUPTS();
    list[i] = convert(Place{place.order, place.field, i}, element);
  });
  return {list, count};
}

/// What a document must have.
struct Given {
  bool customer_id;
  bool product_ids;
  bool quantities;
  bool prices;
};

void read_field(OrderRequest& request, Given& given, const Place& place, const JsonbValue& value) {
  if (place.field == "customer_id") {
    request.customer_id = whole_number(place, bigint, value);
    given.customer_id = true;
  } else if (place.field == "status") {
    request.status = text_or_null(place, value);
  } else if (place.field == "total_amount") {
    if (value.type != jbvNull) request.total_amount = amount(place, value);
  } else if (place.field == "product_ids") {
    request.product_ids = elements<int64>(place, value, [](const Place& at, const JsonbValue& it) {
      return whole_number(at, bigint, it);
    });
    given.product_ids = true;
  } else if (place.field == "quantities") {
    request.quantities = elements<int32>(place, value, [](const Place& at, const JsonbValue& it) {
      return static_cast<int32>(whole_number(at, integer, it));
    });
    given.quantities = true;
  } else if (place.field == "prices") {
    request.prices = elements<Datum>(place, value, amount);
    given.prices = true;
  } else if (place.field == "notes") {
    request.notes = text_or_null(place, value);
  } else if (place.field == "idempotency_key") {
    request.idempotency_key = text_or_null(place, value);
  } else {
    unknown_field(place.order, place.field);
  }
}

}  // namespace

JsonbValue order_list(Jsonb* document) {
  const JsonbValue list = pg::root_of(document);
  if (!pg::is_array(list))
    ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
            errmsg("orders must be a JSON array of objects"),
            errhint("'[{\"customer_id\": 1, \"product_ids\": [7], \"quantities\": [2], \"prices\": "
                    "[9.99]}]'"));
  return list;
}

OrderRequest read_order(const JsonbValue& element, int64 number) {
  if (!pg::is_object(element)) wrong_type({number}, "an object", element);
  OrderRequest request{};
  Given given{};
  pg::for_each_field(element, [&](std::string_view field, const JsonbValue& value) {
    read_field(request, given, {number, field}, value);
  });
  if (!given.customer_id) pg::null_argument(name_of({number, "customer_id"}));
  if (!given.product_ids) pg::null_argument(name_of({number, "product_ids"}));
  if (!given.quantities) pg::null_argument(name_of({number, "quantities"}));
  if (!given.prices) pg::null_argument(name_of({number, "prices"}));
  return request;
}

}  // namespace order_proc
