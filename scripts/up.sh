#!/usr/bin/env bash
# Starts a cluster on this machine: one server, and NODES-1 further nodes, each
# a test host of its own (network, mount, PID, UTS and cgroup namespaces) that
# joins with a token as another machine would.
set -euo pipefail
cd "$(dirname "$0")/.."
skiff=target/release/skiff
testhost=target/release/testhost
data=${DATA_DIR:-/var/lib/skiff}
hosts=$data-hosts
nodes=${NODES:-1}
segment=1
log=$data/skiff.log

if ((EUID != 0)); then
    echo "containers need root: run this with sudo" >&2
    exit 1
fi
# A process that was killed stays in the table until its parent looks; it runs no more.
runs() {
    local state
    state=$(ps -o stat= -p "$(cat "$1" 2>/dev/null || echo 0)" 2>/dev/null) && [[ $state != Z* ]]
}
if runs "$data/skiff.pid"; then
    echo "Skiff runs already (process $(cat "$data/skiff.pid")); \`make down\` stops it"
else
    # One that was killed a moment ago may still hold its ports.
    for ((try = 0; try < 10; try++)); do
        $skiff check --data-dir "$data" >/dev/null && break
        [[ -f $data/skiff.pid ]] || break
        sleep 0.3
    done
    $skiff check --data-dir "$data" >/dev/null || { $skiff check --data-dir "$data" || true; exit 1; }
    install -d -m 0700 "$data" "$data/images"
    cp -u target/images/*.tar "$data/images/"
    flags=()
    if ((nodes > 1)); then
        # All nodes on one segment, as machines in a rack are.
        $testhost network up $segment
        flags+=(--node-ip "172.30.$segment.1")
    fi
    # shellcheck disable=SC2086
    setsid nohup $skiff server --data-dir "$data" "${flags[@]}" ${SKIFF_SERVER_FLAGS:-} >>"$log" 2>&1 </dev/null &
fi
$skiff status --data-dir "$data" --kubeconfig "$data/admin.kubeconfig" --wait 60s --nodes 1 >/dev/null || { tail -n 20 "$log" >&2; exit 1; }

for ((i = 2; i <= nodes; i++)); do
    dir=$hosts/node$i
    [[ -f $dir/data/skiff.pid ]] && continue
    $testhost up "$dir" "node$i" $segment "$i" >/dev/null
    install -d -m 0700 "$dir/data" "$dir/data/images"
    cp -u target/images/*.tar "$dir/data/images/"
    (umask 077 && $skiff token create --data-dir "$data" --kubeconfig "$data/admin.kubeconfig" --ttl 1h \
        --description "node$i of make up" >"$dir/token")
    setsid nohup $testhost exec "$dir" "$PWD/$skiff" agent --data-dir "$dir/data" --node-ip "172.30.$segment.$i" \
        --server "https://172.30.$segment.1:6443" --token-file "$dir/token" >>"$dir/skiff.log" 2>&1 </dev/null &
done
$skiff status --data-dir "$data" --kubeconfig "$data/admin.kubeconfig" --wait 90s --nodes "$nodes"

cat <<EOF

The cluster is ready. What next:

  export KUBECONFIG=$data/admin.kubeconfig
  kubectl get nodes -o wide
  kubectl apply -f examples/web.yaml
  kubectl get pods -o wide -w

The log is $log; \`make down\` stops everything and cleans up.
EOF
command -v kubectl >/dev/null || echo "kubectl is not installed: see https://kubernetes.io/docs/tasks/tools/"
