// noexcept around a PostgreSQL call is a landing pad that terminates.
extern "C" long call_postgres(long);

long sample(long value) noexcept {
  return call_postgres(value) + 1;
}
