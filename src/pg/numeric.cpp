#include "pg/numeric.hpp"

#include <cstring>

namespace order_proc::pg {

namespace {

constexpr int base = 10000;

struct Header {
  bool negative;
  int scale;
  int weight;  ///< of the first digit, in powers of `base`
  const char* digits;
  int count;
};

uint16 read_uint16(const char* at) {
  uint16 value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

/// nullopt for NaN and infinities.
std::optional<Header> read_header(const char* data, int size) {
  const uint16 first = read_uint16(data);
  switch (first & 0xC000) {
    case 0xC000:
      return std::nullopt;
    case 0x8000:  // short form: sign, scale and weight in one word
      return Header{(first & 0x2000) != 0, (first & 0x1F80) >> 7,
                    (first & 0x003F) | ((first & 0x0040) != 0 ? ~0x003F : 0), data + 2,
                    (size - 2) / 2};
    default:  // long form: sign and scale, then the weight
      return Header{(first & 0xC000) == 0x4000, first & 0x3FFF,
                    static_cast<int16>(read_uint16(data + 2)), data + 4, (size - 4) / 2};
  }
}

}  // namespace

std::optional<Hundredths> to_hundredths(Datum value) {
  const auto* varlena = reinterpret_cast<const struct varlena*>(DatumGetPointer(value));
  if (VARATT_IS_EXTENDED(varlena) && !VARATT_IS_SHORT(varlena)) return std::nullopt;
  const auto header =
      read_header(VARDATA_ANY(varlena), static_cast<int>(VARSIZE_ANY_EXHDR(varlena)));
  if (!header) return std::nullopt;
  const auto [negative, scale, weight, digits, count] = *header;
  if (count == 0) return Hundredths{0, scale};
  // At most four whole digits (10^16) and one fractional digit, whose last two decimals are 0.
  if (weight > 3 || count - 1 - weight > 1) return std::nullopt;
  int64 whole = 0;
  for (int i = 0; i <= weight; ++i)
    whole = whole * base + (i < count ? read_uint16(digits + 2 * i) : 0);
  const int fraction_at = weight + 1;
  const int fraction =
      fraction_at >= 0 && fraction_at < count ? read_uint16(digits + 2 * fraction_at) : 0;
  if (fraction % 100 != 0) return std::nullopt;
  const int64 hundredths = whole * 100 + fraction / 100;
  return Hundredths{negative ? -hundredths : hundredths, scale};
}

Datum from_hundredths(int64 count) {
  return NumericGetDatum(int64_div_fast_to_numeric(count, 2));
}

Datum rounded_to(Datum value, int32 typmod) {
  return DirectFunctionCall2(numeric, value, Int32GetDatum(typmod));
}

}  // namespace order_proc::pg
