#!/usr/bin/env bash
# kubectl's verbs, and the published Python and JavaScript clients, against a server
# without a node. The clients are installed into target/clients; a machine without Python or npm says so and passes.
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
if python3 -c 'import venv, ensurepip' 2>/dev/null; then
    if ! cmp -s tests/clients/requirements.txt "$cache/requirements.txt"; then
        python3 -m venv "$cache/python"
        "$cache/python/bin/pip" install -q --disable-pip-version-check -r tests/clients/requirements.txt
        cp tests/clients/requirements.txt "$cache/"
    fi
    run Python timeout 180 "$cache/python/bin/python" tests/clients/python_client.py
else
    echo "SKIPPED: the Python client; install python3-venv to run it" >&2
fi
if command -v npm >/dev/null; then
    if ! cmp -s tests/clients/package.json "$cache/package.json"; then
        cp tests/clients/package.json "$cache/package.json.new"
        (cd "$cache" && mv package.json.new package.json && npm install --silent --no-audit --no-fund) || { rm -f "$cache/package.json"; exit 1; }
    fi
    cp tests/clients/node_client.mjs "$cache/"
    run JavaScript timeout 180 node "$cache/node_client.mjs"
else
    echo "SKIPPED: the JavaScript client; install npm to run it" >&2
fi
