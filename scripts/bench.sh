#!/usr/bin/env bash
# Prints the project's figures, taken on this machine from the release build.
# Arguments go to the program: `bench.sh --only start,pods,api,idle`.
set -euo pipefail
cd "$(dirname "$0")/.."

if ((EUID != 0)); then
    echo "containers need root: run this with sudo" >&2
    exit 1
fi
if [[ ! -x target/release/bench ]]; then
    echo "there is no target/release/bench: run \`make bench\`, which builds it" >&2
    exit 1
fi
exec target/release/bench "$@"
