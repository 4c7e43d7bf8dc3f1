# The commands that people type. What each needs, it installs or builds first.
SHELL := /bin/bash
TARGET := $(shell rustc -vV | sed -n 's/^host: //p')
DATA_DIR ?= /var/lib/skiff
NODES ?= 1
export DATA_DIR NODES

.PHONY: up down build images deps test test-long test-vm sim verify fix bench bench-api bench-scheduler bench-node bench-store clean

up: build            ## start a cluster of NODES nodes and wait until it is Ready
	@scripts/up.sh

down:                ## stop it, and remove every trace
	@scripts/down.sh

deps:                ## install the packages that building and running need
	@scripts/deps.sh

# Static programs: they run inside images and inside any root file system.
STATIC := target/$(TARGET)/static
static: deps
	@for bin in pause web; do cargo rustc -q -p skiff-web --bin $$bin --profile static --target $(TARGET) -- -C target-feature=+crt-static || exit 1; done
	@cargo rustc -q -p skiff-cni --bin skiff-cni --profile static --target $(TARGET) -- -C target-feature=+crt-static

images: static       ## write the images that are shipped to target/images
	@cargo run -q -p skiff-images -- target/images --pause $(STATIC)/pause --web $(STATIC)/web --busybox /bin/busybox

build: images        ## build the release binary
	@cargo build --release -p skiff -p skiff-tests
	@install -m 0755 $(STATIC)/skiff-cni target/release/skiff-cni

test: images         ## every test of the project that CI runs
	@scripts/test.sh

test-long: test      ## and those that take longer
	@scripts/test.sh long

test-vm: build       ## a machine of its own in QEMU: Debian's kernel and packages, cgroup v2
	@tests/vm/run.sh

sim:                 ## simulate servers that fail in SEEDS ways; one again: SKIFF_SIM_SEED=<seed>
	@SKIFF_SIM_SEEDS=$(or $(SEEDS),1000) cargo test --locked -p skiff-store --test simulation -- whatever --nocapture

verify: deps         ## what CI checks; writes nothing
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

fix: deps            ## format, and mend what can be mended by machine
	cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged
	cargo fmt --all

bench: build         ## print the figures
	@scripts/bench.sh

bench-api: build     ## print the API server's figures: many objects, clients, watchers
	@scripts/bench.sh api

bench-scheduler: build ## print the scheduler's figures on 500 and 5,000 simulated nodes
	@scripts/bench.sh scheduler

bench-node: build    ## print a node's figures: a pod's life, rest, probes, logs, exec
	@scripts/bench.sh node

bench-store: deps    ## print the store's figures beside etcd's; SKIFF_BENCH_SHORT=1 for two minutes of it
	@scripts/bench-store.sh

clean:
	cargo clean
