// jsonb, read where it lies: one level at a time, so depth costs nothing.
#pragma once

#include "pg/postgres.hpp"

extern "C" {
#include "utils/jsonb.h"
}

namespace order_proc::pg {

inline bool is_array(const JsonbValue& value) {
  return value.type == jbvBinary && JsonContainerIsArray(value.val.binary.data) &&
         !JsonContainerIsScalar(value.val.binary.data);
}

inline bool is_object(const JsonbValue& value) {
  return value.type == jbvBinary && JsonContainerIsObject(value.val.binary.data);
}

/// Of an array or an object.
inline std::size_t size_of(const JsonbValue& value) {
  return JsonContainerSize(value.val.binary.data);
}

/// The document as a value.
inline JsonbValue root_of(Jsonb* document) {
  JsonbValue value{};
  value.type = jbvBinary;
  value.val.binary.data = &document->root;
  value.val.binary.len = static_cast<int>(VARSIZE_ANY_EXHDR(document));
  return value;
}

inline std::string_view text_of(const JsonbValue& string) {
  return {string.val.string.val, static_cast<std::size_t>(string.val.string.len)};
}

/// Calls `use` with the position, from 0, and the value of each element of an array.
template <typename F>
void for_each_element(const JsonbValue& array, F&& use) {
  static_assert(Jumpable<std::remove_reference_t<F>>);
  JsonbIterator* iterator = JsonbIteratorInit(array.val.binary.data);
  JsonbValue value;
  std::size_t position = 0;
  for (JsonbIteratorToken token = JsonbIteratorNext(&iterator, &value, true); token != WJB_DONE;
       token = JsonbIteratorNext(&iterator, &value, true))
    if (token == WJB_ELEM) use(position++, value);
}

/// Calls `use` with the name and the value of each field of an object.
template <typename F>
void for_each_field(const JsonbValue& object, F&& use) {
  static_assert(Jumpable<std::remove_reference_t<F>>);
  JsonbIterator* iterator = JsonbIteratorInit(object.val.binary.data);
  JsonbValue value;
  std::string_view name;
  for (JsonbIteratorToken token = JsonbIteratorNext(&iterator, &value, true); token != WJB_DONE;
       token = JsonbIteratorNext(&iterator, &value, true)) {
    if (token == WJB_KEY) name = text_of(value);
    if (token == WJB_VALUE) use(name, value);
  }
}

}  // namespace order_proc::pg
