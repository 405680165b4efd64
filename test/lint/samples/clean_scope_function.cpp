// A destructor that runs before PostgreSQL is called, or has only noexcept calls in its life, is no
// landing pad.
extern "C" long call_postgres(long);
extern "C" void take() noexcept;
extern "C" void release() noexcept;

namespace {
struct Guard {
  Guard() { take(); }
  ~Guard() { release(); }
};
thread_local int depth = 0;
}  // namespace

long sample(long value) {
  {
    Guard guard;
    ++depth;
  }
  return call_postgres(value);
}
