// The same query here and there; the server has been found to be of the same major version before.
#include "shard_locale.hpp"

#include "pg/compat.hpp"
#include "pg/spi.hpp"
#include "pg/user.hpp"
#include "remote/row_query.hpp"

namespace order_proc {

namespace {

constexpr const char* locale_query =
    "SELECT CASE d.datlocprovider WHEN 'c' THEN 'libc' WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' "
    "ELSE d.datlocprovider::pg_catalog.text END, d.datcollate, d.datctype, "
    "%s FROM pg_catalog.pg_database AS d WHERE d.datname OPERATOR(pg_catalog.=) "
    "pg_catalog.current_database()";
constexpr std::array locale_columns{"locale provider", "LC_COLLATE", "LC_CTYPE", "ICU locale",
                                    "ICU rules"};
using Locale = std::array<const char*, locale_columns.size()>;

Locale locale_there(remote::Connection& connection, const char* query) {
  const PGresult* const result = remote::ask_row(connection, query);
  Locale locale;
  for (std::size_t i = 0; i < locale.size(); ++i) {
    const int column = static_cast<int>(i);
    locale[i] =
        PQgetisnull(result, 0, column) == 1 ? "none" : pstrdup(remote::cell(result, 0, column));
  }
  remote::end_row(connection);
  return locale;
}

Locale locale_here(const char* query) {
  const MemoryContext memory = CurrentMemoryContext;
  return pg::with_spi([&] {
    Locale locale;
    pg::with_locked_path([&] { pg::execute(query); });
    for (std::size_t i = 0; i < locale.size(); ++i) {
      const pg::Value value = pg::result(0, static_cast<int>(i));
      locale[i] =
          value.null ? "none" : MemoryContextStrdup(memory, TextDatumGetCString(value.datum));
    }
    return locale;
  });
}

/// Of "en_US.UTF-8" and "en_US.utf8" the operating system makes the same.
bool same_locale(std::string_view a, std::string_view b) {
  bool encoding = false;
  const auto next = [&](std::string_view& rest) -> int {
    while (encoding && !rest.empty() && rest.front() == '-') rest.remove_prefix(1);
    if (rest.empty()) return -1;
    const auto letter = static_cast<unsigned char>(rest.front());
    rest.remove_prefix(1);
    return encoding ? pg_ascii_tolower(letter) : letter;
  };
  for (;;) {
    const int letter = next(a);
    if (letter != next(b)) return false;
    if (letter == -1) return true;
    encoding |= letter == '.';
  }
}

}  // namespace

Misfit compare_locale(remote::Connection& connection) {
  const char* const query = psprintf(locale_query, pg::locale_columns);
  const Locale there = locale_there(connection, query);
  const Locale here = locale_here(query);
  for (std::size_t i = 0; i < here.size(); ++i)
    if (!same_locale(there[i], here[i]))
      return {psprintf("its %s is %s, ours %s", locale_columns[i], there[i], here[i]),
              "Make its database with the coordinator's locale: CREATE DATABASE ... "
              "LOCALE_PROVIDER, LC_COLLATE, LC_CTYPE, ICU_LOCALE."};
  return {};
}

Misfit compare_slots(remote::Connection& connection) {
  for (const auto& [customer_id, slot] : core::slot_vectors) {
    const std::array<const char*, 1> values{psprintf(INT64_FORMAT, customer_id)};
    const PGresult* const result = remote::ask_row(
        connection, "SELECT order_proc.slot_for_customer($1::pg_catalog.int8)", values);
    const auto there = strtol(remote::cell(result, 0, 0), nullptr, 10);
    remote::end_row(connection);
    if (there != slot)
      return {
          psprintf("it gives customer " INT64_FORMAT " slot %ld, not %d", customer_id, there, slot),
          "Its hashint8extended differs: use servers of one build, or placement => 'modulo'."};
  }
  return {};
}

}  // namespace order_proc
