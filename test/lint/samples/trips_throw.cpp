// A throw crosses PostgreSQL's C frames: terminate, and with it every session.
extern "C" long call_postgres(long);

long sample(long value) {
  if (value < 0) throw value;
  return call_postgres(value);
}
