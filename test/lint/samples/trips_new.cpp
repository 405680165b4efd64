// operator new throws bad_alloc, and an ereport would leak what it gave: palloc is for glue.
extern "C" long call_postgres(long*);

long sample(long value) {
  return call_postgres(new long(value));
}
