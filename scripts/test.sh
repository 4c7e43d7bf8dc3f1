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
    for _ in 1 2 3; do
        cargo test --locked -p skiff-tests -- --test-threads=1
    done
fi
