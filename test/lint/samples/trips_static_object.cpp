// A static with a constructor runs while the library is loaded, where nobody catches anything.
extern "C" long call_postgres(long);

long started = call_postgres(1);

long sample() {
  return started;
}
