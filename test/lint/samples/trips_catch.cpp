// try/catch in glue: an ereport inside would leak the exception.
extern "C" long call_postgres(long);

long sample(long value) {
  try {
    return call_postgres(value);
  } catch (...) {
    return 0;
  }
}
