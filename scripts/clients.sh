#!/usr/bin/env bash
# kubectl's verbs, and the published Python and JavaScript clients, against a server
# without a node. The clients are installed into target/clients; where they cannot be, that is said and passed over.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=$PWD/target/clients
dir=$(mktemp -d)
port=${CLIENTS_PORT:-7443}
server=
finish() {
    if [[ -n $server ]]; then
        kill "$server" && wait "$server" || true
    fi
    rm -rf "$dir"
}
trap finish EXIT
mkdir -p "$cache"

target/debug/skiff server --disable-agent --data-dir "$dir/data" --https-listen-port "$port" >"$dir/log" 2>&1 </dev/null &
server=$!
export KUBECONFIG=$dir/data/admin.kubeconfig
for _ in $(seq 200); do
    kubectl get --raw /readyz >/dev/null 2>&1 && break
    kill -0 "$server" || { cat "$dir/log" >&2; exit 1; }
    sleep 0.1
done

run() {
    local name=$1
    shift
    echo "client $name: $("$@" 2>&1 | tee "$dir/out" | tail -n 1)"
    if [[ $(tail -n 1 "$dir/out") != ok ]]; then
        tail -n 30 "$dir/out" >&2
        exit 1
    fi
}

run kubectl timeout 300 tests/clients/kubectl.sh
# A client that is there already is not installed again.
install_python() {
    cmp -s tests/clients/requirements.txt "$cache/requirements.txt" && return
    python3 -m venv "$cache/python" &&
        "$cache/python/bin/pip" install -q --disable-pip-version-check -r tests/clients/requirements.txt &&
        cp tests/clients/requirements.txt "$cache/"
}

install_javascript() {
    cmp -s tests/clients/package.json "$cache/package.json" && return
    cp tests/clients/package.json "$cache/package.json"
    (cd "$cache" && npm install --silent --no-audit --no-fund) && return
    rm -f "$cache/package.json"
    return 1
}

if install_python; then
    run Python timeout 180 "$cache/python/bin/python" tests/clients/python_client.py
else
    echo "SKIPPED: the Python client: it needs python3-venv and PyPI" >&2
fi
if command -v npm >/dev/null && install_javascript; then
    cp tests/clients/node_client.mjs "$cache/"
    run JavaScript timeout 180 node "$cache/node_client.mjs"
else
    echo "SKIPPED: the JavaScript client: it needs npm and its registry" >&2
fi
