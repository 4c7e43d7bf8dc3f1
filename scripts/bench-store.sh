#!/usr/bin/env bash
# The store's figures beside etcd's. etcd is Debian's, unpacked into target/ and not
# installed; ETCD names another one. Arguments go to the program.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ -z "${ETCD:-}" ]]; then
    ETCD="$(command -v etcd || true)"
fi
if [[ -z "$ETCD" ]]; then
    ETCD="$PWD/target/etcd/usr/bin/etcd"
    if [[ ! -x "$ETCD" ]]; then
        mkdir -p target/etcd
        (cd target/etcd && apt-get download -qq etcd-server && dpkg -x etcd-server_*.deb .)
    fi
fi
cargo build -q --release -p skiff-store-bench
exec target/release/store-bench --etcd "$ETCD" "$@"
