#include "pg/timestamps.hpp"

#include <cctype>

extern "C" {
#include "pgtime.h"
#include "utils/datetime.h"
}

namespace order_proc::pg {

namespace {

/// DecodeDateTime on broken-up text; an error code of datetime.h.
int decode(char** fields, int* types, int count, int* kind, struct pg_tm* parts, fsec_t* fraction,
           int* zone) {
#if PG_VERSION_NUM >= 160000
  DateTimeErrorExtra extra;
  return DecodeDateTime(fields, types, count, kind, parts, fraction, zone, &extra);
#else
  return DecodeDateTime(fields, types, count, kind, parts, fraction, zone);
#endif
}

/// One answer for all bad timestamps, whatever is wrong with them.
constexpr ParsedTimestamp bad{ERRCODE_INVALID_DATETIME_FORMAT, 0};

/// DecodeDateTime raises an ERROR for a zone that it does not know, by its full name behind a date.
bool names_unknown_zone(char** fields, const int* types, int count) {
  bool date_seen = false;
  for (int i = 0; i < count; ++i) {
    if (types[i] == DTK_DATE && date_seen && !isdigit(static_cast<unsigned char>(fields[i][0])) &&
        pg_tzset(fields[i]) == nullptr)
      return true;
    date_seen |= types[i] == DTK_DATE || types[i] == DTK_NUMBER || types[i] == DTK_STRING;
  }
  return false;
}

}  // namespace

ParsedTimestamp parse_timestamp(std::string_view text) {
  std::array<char, MAXDATELEN + 1> terminated;
  std::array<char, MAXDATELEN + MAXDATEFIELDS> work;
  if (text.size() > MAXDATELEN) return bad;
  *std::copy(text.begin(), text.end(), terminated.begin()) = '\0';
  std::array<char*, MAXDATEFIELDS> fields;
  std::array<int, MAXDATEFIELDS> types;
  int count;
  int error = ParseDateTime(terminated.data(), work.data(), work.size(), fields.data(),
                            types.data(), MAXDATEFIELDS, &count);
  if (error != 0) return bad;
  if (names_unknown_zone(fields.data(), types.data(), count)) return bad;
  struct pg_tm parts {};
  fsec_t fraction;
  int zone;
  int kind;
  error = decode(fields.data(), types.data(), count, &kind, &parts, &fraction, &zone);
  if (error != 0) return bad;
  TimestampTz value = 0;
  switch (kind) {
    case DTK_DATE:
      if (tm2timestamp(&parts, fraction, &zone, &value) != 0) return bad;
      return {0, value};
    case DTK_EPOCH:
      return {0, SetEpochTimestamp()};
    case DTK_LATE:
      TIMESTAMP_NOEND(value);
      return {0, value};
    case DTK_EARLY:
      TIMESTAMP_NOBEGIN(value);
      return {0, value};
    default:
      return bad;
  }
}

}  // namespace order_proc::pg
