# One entry for people and for CI: `make` lists the targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The servers that tests start come from here first: `make tools` puts them there.
export PATH := $(CURDIR)/.tools/bin:$(PATH)

# CI must not rewrite Cargo.lock; a developer's build may.
LOCKED := $(if $(CI),--locked)

# Tests and end-to-end tests share one build: building all targets at once keeps
# the features of the dependencies, and so their compiled form, the same for both.
ALL := --workspace --all-targets $(LOCKED)

, := ,
PARTS := tools fmt lint build charts unit e2e autobahn instructions

.PHONY: help
help: ## Show this list
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

.PHONY: run
run: ## Run one gateway with everything embedded: nothing else is needed (PROFILE=config-push, of profiles/)
	cargo run --release $(LOCKED) -p gateway -- dev $(if $(PROFILE),--profile profiles/$(PROFILE).toml)

.PHONY: cluster
cluster: ## Run NATS, Redis and three gateways as local processes, until Ctrl-C
	scripts/tools.sh redis nats
	cargo build --release $(LOCKED) -p gateway
	scripts/cluster.sh

.PHONY: demo-offline
demo-offline: ## Show that messages wait for a user who is away, and survive a killed gateway
	@scripts/tools.sh redis nats python
	cargo build $(LOCKED) -p gateway
	.tools/venv/bin/python e2e/demo_offline.py

.PHONY: test
test: ## Run all that CI runs, with one summary line at the end
	@MAKE='$(MAKE)' scripts/parts.sh $(PARTS)

.PHONY: tools
tools: ## Install what the tests need, into .tools where possible
	@scripts/tools.sh

.PHONY: fmt
fmt: ## Check the formatting (`cargo fmt` mends it)
	cargo fmt --all --check

.PHONY: lint
lint: guards clippy doc ## Clippy, the documentation's warnings, and the guards

.PHONY: clippy
clippy:
	cargo clippy $(ALL) -- -D warnings

.PHONY: doc
doc:
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --document-private-items $(LOCKED)

.PHONY: guards
guards: ## Check the rules of the architecture (scripts/guards.sh)
	@scripts/guards.sh

.PHONY: build
build: ## Build everything, tests included, in the dev profile
	cargo build $(ALL)

.PHONY: unit
unit: ## Run the Rust tests; they start NATS and Redis themselves
	@scripts/tools.sh redis nats
	cargo test --workspace $(LOCKED)

.PHONY: e2e
e2e: build ## Drive the built gateway with other people's clients
	@scripts/tools.sh redis nats node python chromium haproxy
	.tools/venv/bin/python -m pytest e2e -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: charts
charts: build ## Render and check the chart, manifests, dashboards, alerts and image (UPDATE_GOLDEN=1 mends)
	@scripts/tools.sh python helm promtool schemas
	charts/tests/run.sh

.PHONY: image
image: ## Build the container image for amd64 and arm64, with SBOM (IMAGE=registry/name:tag PUSH=1)
	mkdir -p target
	docker buildx build --platform linux/amd64,linux/arm64 --sbom=true --provenance=mode=max \
	  --build-arg REVISION=$$(git rev-parse HEAD) --tag $(or $(IMAGE),fanfare:dev) \
	  $(if $(PUSH),--push,--output type=oci$(,)dest=target/image.tar) .

.PHONY: chaos
chaos: build ## Break servers under traffic and check the contract (SECONDS=60 SEED=… FAULTS=a,b)
	@scripts/tools.sh redis nats python
	cd e2e && ../.tools/venv/bin/python -m chaos --seconds $(or $(SECONDS),60) \
	  $(if $(SEED),--seed $(SEED)) $(if $(FAULTS),--faults $(FAULTS))

.PHONY: rollout
rollout: ## Replace and kill gateways under 5,000 clients, behind HAProxy (ROLLOUT='--clients N' and more)
	@scripts/tools.sh redis nats python haproxy
	cargo build --release $(LOCKED) -p gateway -p loadtest
	cd e2e && FANFARE_BIN=../target/release/fanfare LOADTEST_BIN=../target/release/loadtest \
	  ../.tools/venv/bin/python -m rollout $(ROLLOUT)

.PHONY: autobahn
autobahn: build ## Run the Autobahn WebSocket conformance suite against the gateway
	@scripts/tools.sh python autobahn
	e2e/autobahn/run.sh

.PHONY: instructions
instructions: ## Count the instructions of a delivery and compare them with what is committed
	@scripts/tools.sh valgrind
	scripts/instructions.sh

.PHONY: bench
bench: ## Measure Fanfare beside others and write docs/benchmarks.md (BENCH=--help has the options)
	cargo build --release $(LOCKED) -p gateway -p loadtest
	cd loadtest && python3 -m bench $(BENCH)

.PHONY: clean
clean: ## Remove what was built and what `make tools` put into the tree
	rm -rf target .tools e2e/node/node_modules loadtest/peers/node_modules
	find e2e scripts loadtest -name __pycache__ -prune -exec rm -rf {} +
