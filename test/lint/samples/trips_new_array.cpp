extern "C" long call_postgres(long*);

long sample(unsigned long size) {
  return call_postgres(new long[size]);
}
