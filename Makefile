# Needs Rust, git, make and a C linker (gcc or clang, with which the tests also build the cryptography of TLS); the tests also need a Redis
# or Valkey server that was built with TLS, as those of distributions are: `make test` installs one where there is none.

CARGO ?= cargo
# How long `make fuzz` stays with each target, and `make soak` and `make chaos` run.
SECONDS ?= 30
# How many rounds `make exploits` plays.
ROUNDS ?= 10000
# How many states `make model` generates for each scenario, at most.
STATES ?= 3000000

.DEFAULT_GOAL := help
.PHONY: help demo shop test browser lint audit bench compare fuzz soak chaos exploits model server

help: ## this list
	@echo "make demo               100,000 log-ins on three servers, start to finish (NODES=... for your own)"
	@echo "make shop               a shop in the browser: its servers join, leave and die while people shop"
	@echo "make test               everything: unit, property, conformance, integration, docs;"
	@echo "                        installs a Redis server first where there is none"
	@echo "make browser            the shop in Chromium, which is installed first where there is none; SCREENSHOTS=1 takes the"
	@echo "                        pictures in docs/screenshots anew"
	@echo "make lint               formatting, clippy and docs; warnings are errors"
	@echo "make audit              licences, sources and advisories (cargo-deny)"
	@echo "make bench              benchmarks (criterion)"
	@echo "make compare QUICK=1    against other clients, a Redis Cluster and twemproxy, side by side: the goals alone;"
	@echo "                        without QUICK everything, and docs/performance-compare.md; ONLY=name,... some goals"
	@echo "make fuzz SECONDS=30    each fuzz target for so long (needs a nightly toolchain)"
	@echo "make soak SECONDS=600   the simulation, seed after seed, for so long; SEED=n says where to begin"
	@echo "make chaos SECONDS=300  real servers, clients, resizes and promotions that die, hang and forget; SEED=n repeats a run"
	@echo "make exploits ROUNDS=10000  log-outs that race everything else, from 64 tasks in 4 processes; SEED=n for other moments"
	@echo "make model STATES=...   the model of the resize protocol, for longer than a test may take"
	@echo ".ci/run                 lint, test, browser and audit"

demo: ## starts servers of its own where it finds a program, and in-memory nodes otherwise; installs nothing
	$(CARGO) run --release --locked -p demo

shop: ## like the demo, until Ctrl-C; `cargo run --release -p shop -- --help` has its options
	$(CARGO) run --release --locked -p shop

server:
	@scripts/install-redis.sh --if-missing

test: server
	@echo "make test: unit, property, conformance and integration tests, and the examples in the docs"
	$(CARGO) test --workspace --exclude bare --all-features --locked
	$(CARGO) test -p bare --locked
	@echo "make test: everything passed"

browser: server ## of the workspace, so that what `make test` has built is used again
	@scripts/install-chromium.sh --if-missing
	$(CARGO) test --workspace --all-features --locked --test browser
	@echo "make browser: everything passed"

lint: ## the browser test by itself: `--all-targets` leaves out what `cargo test` does
	$(CARGO) fmt --all --check
	@if [ -f fuzz/Cargo.toml ]; then set -x; $(CARGO) fmt --manifest-path fuzz/Cargo.toml --check; fi
	$(CARGO) clippy --workspace --all-targets --all-features --locked -- -D warnings
	$(CARGO) clippy --workspace --test browser --all-features --locked -- -D warnings
	$(CARGO) clippy -p sessionring --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --all-features --locked
	@echo "make lint: clean"

audit:
	@scripts/audit.sh

bench: server
	$(CARGO) bench --locked -p sessionring-benches

compare: server
	@scripts/install-twemproxy.sh --if-missing
	$(CARGO) run --release --locked -p compare -- $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY))

fuzz:
	@CARGO="$(CARGO)" scripts/fuzz.sh $(SECONDS)

soak:
	@CARGO="$(CARGO)" scripts/soak.sh $(SECONDS) $(SEED)

chaos: server
	$(CARGO) run --release --locked -p chaos -- all --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

exploits: server
	$(CARGO) run --release --locked -p exploits -- $(ROUNDS) $(SEED)

model:
	@CARGO="$(CARGO)" scripts/model.sh $(STATES)
