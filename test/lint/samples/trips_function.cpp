// Calling an empty std::function throws.
#include <functional>

long sample(const std::function<long()>& body) {
  return body();
}
