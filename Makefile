# The packager's door: make, make install, make installcheck.
# The developer's door, with unit tests, sanitizers and clang-tidy, is CMakeLists.txt.
#
#   make PG_CONFIG=/path/to/pg_config CXX=clang++ EXTRA_CXXFLAGS=-Werror
#   make order_proc.so        the library alone, without the lints
#   make PCH=1                the same with PostgreSQL's headers compiled once: in two thirds of the time, a third with clang++
#   make lint                 every lint, also those that need clang-format
#   make installcheck         everything that needs a server; or one kind of it:
#   make installcheck-sql installcheck-isolation installcheck-cluster installcheck-failures

EXTENSION  = order_proc
MODULE_big = order_proc
DATA       = $(sort $(wildcard sql/*.sql))
SOURCES    = $(sort $(wildcard src/*.cpp src/*/*.cpp))
OBJS       = $(SOURCES:.cpp=.o)
DEPS       = $(OBJS:.o=.d)
# Everything but the core calls PostgreSQL, so the longjmp lint judges it.
GLUE_OBJS  = $(filter-out src/core/%,$(OBJS))

PG_CONFIG ?= pg_config
SERVER_INCLUDE := $(shell $(PG_CONFIG) --includedir-server)

# -isystem: warnings inside PostgreSQL's headers are not ours. -frecord-gcc-switches: the lint reads from the object how it was compiled.
# -fno-semantic-interposition: a call inside the library may be inlined, nobody replaces our functions from outside.
PG_CPPFLAGS = -isystem $(SERVER_INCLUDE) -isystem $(shell $(PG_CONFIG) --includedir) -I$(CURDIR)/src
PG_CXXFLAGS = -std=gnu++20 -Wall -Wextra -Wshadow -Wno-register -fno-semantic-interposition -frecord-gcc-switches -MMD -MP $(EXTRA_CXXFLAGS)
SHLIB_LINK  = $(libpq) -lstdc++ -Wl,-Bsymbolic -Wl,--version-script=src/order_proc.map
ifneq (,$(findstring clang,$(CXX)))
# PostgreSQL was configured with g++ and hands over its warning flags; and not every function looks at PG_FUNCTION_ARGS, which g++ knows to be a macro of a system header.
PG_CXXFLAGS += -Wno-unknown-warning-option -Wno-unused-parameter
endif

# PG 15 has no --expecteddir: test/expected is a link to ../expected.
REGRESS        = --schedule=test/schedule
REGRESS_OPTS   = --inputdir=test --outputdir=output
ISOLATION     := $(sort $(patsubst test/isolation/specs/%.spec,%,$(wildcard test/isolation/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test/isolation
PROVE_TESTS   := $(sort $(wildcard test/cluster/*.pl))
TAP_TESTS     := $(if $(PROVE_TESTS),1)
EXTRA_CLEAN    = $(DEPS) $(wildcard $(PRECOMPILED)*) output

# Bitcode gains nothing (JIT does not inline extension code) and PGXS would compile it without our flags.
override with_llvm = no
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

-include $(DEPS)
$(OBJS): Makefile

# Both compilers find it by the name that they are told to include.
PRECOMPILED = precompiled.hpp
ifdef PCH
$(GLUE_OBJS): $(PRECOMPILED).gch
$(GLUE_OBJS): private override CPPFLAGS := -include $(PRECOMPILED) $(CPPFLAGS)
$(PRECOMPILED).gch: src/pg/postgres.hpp Makefile
	echo '#include "pg/postgres.hpp"' >$(PRECOMPILED)
	$(CXX) $(CXXFLAGS) $(CPPFLAGS) -x c++-header -o $@ $(PRECOMPILED)
endif
$(shlib): src/order_proc.map

all: lint-build
LINTS = $(addprefix lint-,self_test layers scheduled format reference)
.PHONY: lint lint-build $(LINTS) installcheck-sql installcheck-isolation installcheck-cluster installcheck-failures

lint-build: $(shlib)
	@test/lint/longjmp.sh $(GLUE_OBJS)
	@test/lint/exports.sh $(shlib) src/order_proc.map $(DATA)
	@test/lint/failpoints.sh $(shlib)
	@test/lint/migrations.sh
	@test/lint/versions.sh

lint: lint-build $(LINTS)
$(LINTS): lint-%:
	@CXX='$(CXX)' test/lint/$*.sh

installcheck-sql:
	$(pg_regress_installcheck) $(REGRESS_OPTS) $(REGRESS)
installcheck-isolation:
	$(pg_isolation_regress_installcheck) $(ISOLATION_OPTS) $(ISOLATION)
installcheck-cluster:
	$(prove_installcheck)
# With a library that was built with -DORDER_PROC_FAILPOINTS; others skip what needs it.
installcheck-failures: PROVE_TESTS := $(sort $(wildcard test/failures/*.pl))
installcheck-failures:
	$(prove_installcheck)
