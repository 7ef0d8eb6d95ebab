# Daily work; each target is one script, which can be run without make as well.
PREFIX ?= /usr/local
DESTDIR ?=

.PHONY: build run test bench profile soak kill-runs fuzz sanitize format install clean

build: ## build/bin/rain, build/lib, build/include, .venv
	scripts/build

run: ## the licences example, from nothing to a picture
	scripts/run

test: ## the whole suite
	scripts/test

bench: ## one JSON line per case
	bench/run

SEEDS ?= 1-100000
soak: ## the simulation over SEEDS=first-last
	scripts/simulate --once $(SEEDS)

RUNS ?= 50
kill-runs: ## runs whose server is killed at random moments
	scripts/kill-runs --runs $(RUNS)

fuzz: ## every fuzzer for 60 s
	scripts/fuzz

sanitize: ## AddressSanitizer and ThreadSanitizer over cores, codecs, journal, transport
	scripts/sanitize

profile: ## what a task costs on each stage of its way
	bench/profile --instructions

format:
	scripts/format

install: build ## the program, the C library and its header under PREFIX
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/libexec/rain
	install -m 755 build/bin/rain $(DESTDIR)$(PREFIX)/bin/rain
	find build/libexec/rain -type f -exec install -m 755 {} $(DESTDIR)$(PREFIX)/libexec/rain/ \;
	cmake -S . -B build/cmake-install -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX=$(abspath $(PREFIX)) \
		-DCMAKE_INSTALL_LIBDIR=lib -DCSW_EXAMPLES=OFF -DCSW_TESTS=OFF
	cmake --build build/cmake-install
	DESTDIR=$(DESTDIR) cmake --install build/cmake-install
	@echo "installed; the Python package: pip install ./python"

clean:
	rm -rf .build build .venv
