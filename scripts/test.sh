#!/usr/bin/env bash
# All tests: pure parts and crates first, then clusters of real nodes.
# `test.sh long` adds what takes longer.
set -euo pipefail
cd "$(dirname "$0")/.."
host=$(rustc -vV | sed -n 's/^host: //p')

# What the cluster tests run.
cargo build --locked -p skiff -p skiff-tests
install -m 0755 "target/$host/static/skiff-cni" target/debug/skiff-cni

cargo test --locked --workspace --exclude skiff-tests
# One cluster at a time: they measure and break things.
cargo test --locked -p skiff-tests -- --test-threads=1
scripts/clients.sh
if [[ ${1:-} == long ]]; then
    # Properties over many more cases, and clusters again and again.
    PROPTEST_CASES=5000 cargo test --locked --workspace --exclude skiff-tests --lib
    # A day of what a cluster at rest writes, and what the state database takes for it.
    cargo test --locked -p skiff-store --lib state_db -- --ignored --nocapture
    # A simulated cluster: disturbed, then left alone.
    cargo test --locked -p skiff --test simulation -- --ignored --nocapture
    # A node whose programs are killed for longer, at other moments, and 2,000 pods through it.
    SKIFF_TEST_SEED=$RANDOM SKIFF_TEST_ROUNDS=60 SKIFF_TEST_CHURN=2000 \
        cargo test --locked -p skiff-tests --test crash -- --nocapture
    # Nodes with a containerd of the next generation, which has user namespaces.
    if scripts/newer-runtime.sh target/newer; then
        for test in users pods cluster lifecycle lifecycle_spec volumes images resources endpoints; do
            PATH="$PWD/target/newer/bin:$PATH" cargo test --locked -p skiff-tests --test "$test" -- --test-threads=1
        done
    else
        echo "SKIPPED: tests with a newer containerd, which cannot be fetched" >&2
    fi
    for _ in 1 2 3; do
        cargo test --locked -p skiff-tests -- --test-threads=1
    done
fi
