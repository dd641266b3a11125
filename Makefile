# tine's one entry: `make demo` shows it, `make test` checks it, `make install` hands it over.
# Cargo knows how to build the library and when; this file knows where things go and in which order to check them.

PREFIX     ?= /usr/local
DESTDIR    ?=
BINDIR     ?= $(PREFIX)/bin
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
LIBEXECDIR ?= $(PREFIX)/libexec
DATADIR    ?= $(PREFIX)/share
CC         ?= cc
CFLAGS     ?= -O2 -g
CARGO      ?= cargo
RUSTC      ?= rustc

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
NUMBERS := $(subst ., ,$(VERSION))
# Before 1.0 a minor version may break the ABI, so the soname, which build.rs sets, names it: the loader mixes no two of them.
SONAME  := libtine.so.$(word 1,$(NUMBERS))$(if $(filter 0,$(word 1,$(NUMBERS))),.$(word 2,$(NUMBERS)))
SHARED  := libtine.so.$(VERSION)

# The C++ binding: headers beside tine.h, those that tine.hpp includes in a directory of their own.
CPP := bindings/cpp/tine.hpp $(wildcard bindings/cpp/tine/*.hpp)
CMAKE := tine-config.cmake.in tine-config-version.cmake.in

RELEASE := $(or $(CARGO_TARGET_DIR),target)/$(if $(CARGO_BUILD_TARGET),$(CARGO_BUILD_TARGET)/)release
# What the demo and the checks build against: the package as installed, never the source tree.
STAGE   := $(CURDIR)/build/prefix
STAGED  := $(STAGE)/.installed
WITH    := PKG_CONFIG_PATH="$(STAGE)/lib/pkgconfig"

.PHONY: all install uninstall staged book wheel demo test test-long c-tests examples storm deb bench bench-quick bench-core bench-compare bench-bindings bench-instructions header symbols abi clean FORCE
all: $(RELEASE)/libtine.so $(RELEASE)/tine build/man/.made

# Cargo decides whether there is anything to do; make then goes by the time of the file that it left. No path of the machine that
# builds gets into the library, so that it is the same wherever it is built.
CARGO_HOME ?= $(HOME)/.cargo
REMAP := --remap-path-prefix=$(CURDIR)=tine --remap-path-prefix=$(CARGO_HOME)=cargo
$(RELEASE)/libtine.so $(RELEASE)/libtine.a $(RELEASE)/tine &: FORCE
	RUSTFLAGS="$(strip $(RUSTFLAGS) $(REMAP))" $(CARGO) build --release --quiet --package tine --package tine-cli
FORCE:

# Who installs need not have cargo: it is called only where the library is not there, or a source of it is newer. The archive is there
# for every target.
FRESH = $(wildcard $(RELEASE)/tine) $(shell find src cli/src cli/Cargo.toml build.rs Cargo.toml Cargo.lock \( -name '*.rs' -o -name 'variadic.c' -o -name 'Cargo.*' \) \
    -newer $(RELEASE)/libtine.a 2>&1 | head -n 1)
LIBRARY = $(if $(filter-out 1,$(words $(FRESH))),$(RELEASE)/libtine.so)
INSTALL = PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' BINDIR='$(BINDIR)' LIBDIR='$(LIBDIR)' INCLUDEDIR='$(INCLUDEDIR)' LIBEXECDIR='$(LIBEXECDIR)' \
    DATADIR='$(DATADIR)' RELEASE='$(RELEASE)' VERSION='$(VERSION)' SONAME='$(SONAME)' SHARED='$(SHARED)' CC='$(CC)' \
    CFLAGS='$(CFLAGS)' LDFLAGS='$(LDFLAGS)' packaging/install.sh
install: $(LIBRARY) build/man/.made
	@$(INSTALL) install
uninstall:
	@$(INSTALL) uninstall

# The reference of the header's comments: manual pages, and the pages of the book, which has the guides, too.
build/reference: packaging/reference.rs packaging/reference/man.rs packaging/reference/markdown.rs
	@mkdir -p build
	$(RUSTC) --edition 2024 -o $@ $<
build/man/.made: include/tine.h packaging/tine.1 build/reference
	@rm -rf build/man
	@build/reference man include/tine.h build/man/man3 "$$(LC_ALL=C date -u -d @$${SOURCE_DATE_EPOCH:-$$(stat -c %Y include/tine.h)} '+%B %-d, %Y')"
	@mkdir build/man/man1 build/man/man7 && mv build/man/man3/*.7 build/man/man7 && cp packaging/tine.1 build/man/man1
	@touch $@
book: build/reference
	@packaging/book.sh

staged: $(STAGED)
$(STAGED): $(RELEASE)/libtine.so $(RELEASE)/tine include/tine.h include/tine-ffi.h tine.pc.in $(CPP) $(CMAKE) src/worker/tine-worker.c packaging/install.sh build/man/.made Makefile
	@$(MAKE) --no-print-directory --silent install PREFIX="$(STAGE)" DESTDIR= \
	    BINDIR="$(STAGE)/bin" LIBDIR="$(STAGE)/lib" INCLUDEDIR="$(STAGE)/include" LIBEXECDIR="$(STAGE)/libexec" DATADIR="$(STAGE)/share"
	@touch $@

# Python's package, with the library in it.
wheel:
	@ci/need.sh wheel
	@$(MAKE) --no-print-directory --silent staged
	@ci/make-wheel.sh

# Debian's source package, and its packages, into build/deb: they are built without the network.
deb:
	@packaging/deb.sh -d

demo:
	@ci/need.sh demo
	@echo "Building the library and the examples into build/: the first time takes one or two minutes."
	@$(MAKE) --no-print-directory --silent staged examples
	@ci/demo.sh

test:
	@ci/need.sh test
	@ci/test.sh
# What takes too long for that, or more packages than a contributor should need: whole builds, sanitizers, other machines.
test-long:
	@ci/need.sh test-long
	@ci/test.sh long

# Pieces of `make test` that are worth running alone.
c-tests: staged
	@$(WITH) ci/run-c-tests.sh $(TESTS)
examples: staged
	@$(WITH) $(MAKE) --no-print-directory -C examples-c OUT="$(CURDIR)/build/examples"
	@$(WITH) $(MAKE) --no-print-directory -C bindings/cpp/examples OUT="$(CURDIR)/build/examples"

# The long forms of what `make test` does: 1,000,000 tasks with 10,000 kills; the same with a host that makes no call for a second at a
# time; 6,000 tasks with deadlines; 1,000,000 tasks in
# workers that are replaced after 1 to 7 of them; 100,000 kills of users of each lock, all their slow cases single-stepped,
# and their models with one preemption more; 15,000 kills of users of queues, 10,000 histories of each object, 5,000 kills of processes that share
# nothing but a segment; 2,000 kills in a heap of one's own, 5,000 inside alloc and free; 60 s of random writes, and again
# under AddressSanitizer; 12,500 kills of processes with channels; 9,000 single processes and 900 of their hosts; and every
# system call of the scenarios of tests/c/sweep_*.c, failing in each way that it can; and every allocation of tests/c/memory_short*.c.
SWEEPS := $(patsubst tests/c/%.c,%,$(wildcard tests/c/sweep_*.c))
STORMS := storm silence ending_storm heap-own heap-scribble queue_segment_storm channel_death process_storm birth hostile_sweep memory_short memory_short_heap $(SWEEPS)
storm: staged
	TINE_STORM=1 $(CARGO) test --test sync_storm --test sync_step --test sync_living --test queue_storm --test histories
	TINE_STORM=1 $(CARGO) test --test heap_model --test wait_model
	TINE_STORM=1 $(CARGO) test --test sync_model settles -- --nocapture
	@$(WITH) VARIANTS=shared-c LIMIT=7200 TINE_STORM=long TINE_SCRIBBLE=60 ci/run-c-tests.sh \
	    $(STORMS:%=tests/c/%.c)
	@cd build/c && cat $(STORMS:%=%-shared-c.log)
	TINE_KILLS=5000 $(CARGO) test --release --quiet --lib kills
	ci/check-asan.sh 60
# Each program of benches/ measures one subject next to its peers, in one interleaved run; tables and plots go to docs/benchmarks,
# of the short form to build/benches/quick.
bench: staged
	@benches/run.sh full
bench-quick: staged
	@benches/run.sh quick
# Single calls of the core in one thread, by criterion.
bench-core:
	@CRITERION_HOME=$(CURDIR)/build/benches/criterion $(CARGO) bench --quiet --manifest-path benches/peers/Cargo.toml --target-dir build/benches/peers --bench core -- --noplot
# What the bindings cost next to C, in one run each: C++ and Go.
bench-bindings: staged
	@benches/bindings.sh
# Instructions of single calls, without and with faults and a trace, and of a task in C and in C++.
bench-instructions: staged
	@benches/instructions.sh
# Instructions of single calls, next to those of another commit: make bench-compare BASE=commit.
bench-compare:
	@benches/compare.sh $(BASE)

# Committed, for people to read in a review: what C programs see, what the loader sees, and what is passed between the two.
header:
	TINE_WRITE_HEADER=1 $(CARGO) test --quiet --test header
symbols: staged
	@ci/check-symbols.sh --write
abi: staged
	@ci/check-abi.sh --write

clean:
	$(CARGO) clean
	rm -rf build
