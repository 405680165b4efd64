#include "pg/timestamps.hpp"

extern "C" {
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

ParsedTimestamp failed(int error) {
  const bool range = error == DTERR_FIELD_OVERFLOW || error == DTERR_MD_FIELD_OVERFLOW ||
                     error == DTERR_TZDISP_OVERFLOW;
  return {range ? ERRCODE_DATETIME_FIELD_OVERFLOW : ERRCODE_INVALID_DATETIME_FORMAT, 0};
}

}  // namespace

ParsedTimestamp parse_timestamp(std::string_view text) {
  std::array<char, MAXDATELEN + 1> terminated;
  std::array<char, MAXDATELEN + MAXDATEFIELDS> work;
  if (text.size() > MAXDATELEN) return failed(DTERR_BAD_FORMAT);
  *std::copy(text.begin(), text.end(), terminated.begin()) = '\0';
  std::array<char*, MAXDATEFIELDS> fields;
  std::array<int, MAXDATEFIELDS> types;
  int count;
  int error = ParseDateTime(terminated.data(), work.data(), work.size(), fields.data(),
                            types.data(), MAXDATEFIELDS, &count);
  if (error != 0) return failed(error);
  struct pg_tm parts {};
  fsec_t fraction;
  int zone;
  int kind;
  error = decode(fields.data(), types.data(), count, &kind, &parts, &fraction, &zone);
  if (error != 0) return failed(error);
  TimestampTz value = 0;
  switch (kind) {
    case DTK_DATE:
      if (tm2timestamp(&parts, fraction, &zone, &value) != 0) return failed(DTERR_FIELD_OVERFLOW);
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
      return failed(DTERR_BAD_FORMAT);
  }
}

}  // namespace order_proc::pg
