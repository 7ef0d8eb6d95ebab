# Daily work; each target is one script, which can be run without make as well.
PREFIX ?= /usr/local
DESTDIR ?=

.PHONY: build run test bench profile soak kill-runs fuzz sanitize sanitize-all format install clean

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

sanitize-all: ## the same, and ThreadSanitizer over server and worker with their HTTP stack
	scripts/sanitize address thread shells

profile: ## what a task costs on each stage of its way
	bench/profile --instructions

format:
	scripts/format

install: build ## the program, the C library and its header, the Python package's wheel under PREFIX
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/libexec/rain $(DESTDIR)$(PREFIX)/share/rain
	install -m 755 build/bin/rain $(DESTDIR)$(PREFIX)/bin/rain
	find build/libexec/rain -type f -exec install -m 755 {} $(DESTDIR)$(PREFIX)/libexec/rain/ \;
	DESTDIR=$(DESTDIR) cmake --install build/cmake --prefix $(abspath $(PREFIX))
	rm -f $(DESTDIR)$(PREFIX)/share/rain/rain-*.whl
	install -m 644 build/python/rain-*.whl $(DESTDIR)$(PREFIX)/share/rain/
	@echo "installed; the Python package: pip install $(PREFIX)/share/rain/rain-*.whl"

clean:
	rm -rf .build build .venv
