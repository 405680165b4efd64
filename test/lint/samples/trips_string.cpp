// A std::string held across a call leaks.
#include <string>

extern "C" long call_postgres(const char*);

long sample(const char* text) {
  std::string copy(text);
  return call_postgres(copy.c_str());
}
