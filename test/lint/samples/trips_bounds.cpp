// at() and substr() throw; no landing pad tells, only the runtime's __throw_ function.
#include <string_view>

extern "C" long call_postgres(const char*, unsigned long);

long sample(std::string_view text, unsigned long from) {
  std::string_view tail = text.substr(from);
  return call_postgres(tail.data(), tail.size());
}
