#include "pg/error.hpp"

namespace order_proc::pg {

const char* shown(std::string_view text) {
  constexpr int longest = 64;
  const int size = static_cast<int>(std::min<std::size_t>(text.size(), INT_MAX));
  if (size <= longest) return pnstrdup(text.data(), size);
  return psprintf("%.*s...", pg_mbcliplen(text.data(), size, longest), text.data());
}

void null_argument(const char* name) {
  ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be NULL", name),
          errhint("Give a value for %s.", name));
}

void unknown_option(const char* name, std::string_view value, const char* hint) {
  ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
          errmsg("unknown %s \"%s\"", name, shown(value)), errhint("%s", hint));
}

}  // namespace order_proc::pg
