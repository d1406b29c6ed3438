# What there is to do here. `make` alone lists it.
.DEFAULT_GOAL := help
.PHONY: help demo test bars bench lint tools

CARGO ?= cargo

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: tools ## build and show the whole thing at work: no tenant, no file
	@echo "building (the first time takes a few minutes) ..." >&2
	@$(CARGO) run --quiet --locked -- demo $(ARGS)

test: tools ## every test that a change must pass
	$(CARGO) test --locked --features failpoints

bars: tools ## what is promised: loss, duplicates, kills, memory, speed (long)
	AUDITFERRY_BARS=full $(CARGO) test --locked --profile bars --features failpoints --test it bars:: -- --nocapture --test-threads=1

bench: tools ## how fast the parts are
	$(CARGO) bench --locked

lint: tools ## formatting, clippy, licences and advisories
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets --features failpoints -- -D warnings
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --locked check; \
	else echo "cargo-deny is not installed: licences and advisories were NOT checked (cargo install --locked cargo-deny)" >&2; fi

# One command for all that is missing, before a build fails half-way.
tools:
	@missing=""; \
	command -v cc >/dev/null || missing="$$missing build-essential"; \
	command -v cmake >/dev/null || missing="$$missing cmake"; \
	command -v $(CARGO) >/dev/null || rust=1; \
	if [ -n "$$missing" ]; then \
	  if command -v apt-get >/dev/null; then echo "missing:$$missing. Install with: sudo apt-get install -y$$missing" >&2; \
	  elif command -v dnf >/dev/null; then echo "missing a C compiler or cmake. Install with: sudo dnf install -y gcc gcc-c++ make cmake" >&2; \
	  elif command -v brew >/dev/null; then echo "missing a C compiler or cmake. Install with: brew install cmake (and xcode-select --install)" >&2; \
	  else echo "missing:$$missing (a C compiler and cmake)" >&2; fi; \
	fi; \
	if [ -n "$$rust" ]; then \
	  echo "missing: Rust. Install with: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y && . \"\$$HOME/.cargo/env\"" >&2; \
	fi; \
	[ -z "$$missing$$rust" ]
