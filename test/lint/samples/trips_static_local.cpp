// A static local with an initialiser at run time: an ereport inside leaves its guard locked for
// ever.
extern "C" long call_postgres(long);

long sample(long value) {
  static long first = call_postgres(value);
  return first;
}
