// A guard object alive across a call: its destructor would be skipped.
extern "C" long call_postgres(long);
extern "C" void release() noexcept;

namespace {
struct Guard {
  ~Guard() { release(); }
};
}  // namespace

long sample(long value) {
  Guard guard;
  return call_postgres(value);
}
