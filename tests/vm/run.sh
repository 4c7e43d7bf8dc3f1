#!/usr/bin/env bash
# Skiff on a machine as most users have: Debian's kernel and packages, cgroup v2 alone. The
# machine is QEMU's, without KVM, so it takes minutes; no network is needed but Debian's
# registry, and that only the first time. SUITES="bookworm trixie" adds containerd 1.7.
set -euo pipefail
cd "$(dirname "$0")/../.."
suites=${SUITES:-bookworm}
skiff=${SKIFF:-target/release/skiff}
cache=${VM_CACHE:-$PWD/target/vm}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
port=${VM_PORT:-7543}
# Emulated processors are ten to twenty times slower, more so on a busy machine.
patience_s=${VM_PATIENCE:-600}

skip() {
    echo "SKIPPED: $*" >&2
    exit 0
}
[[ $(uname -m) == x86_64 ]] || skip "the machine is built for x86_64 alone"
((EUID == 0)) || skip "making a root file system needs root"
command -v kubectl >/dev/null || skip "kubectl is not installed"
declare -A needs=([qemu-system-x86_64]=qemu-system-x86 [mmdebstrap]=mmdebstrap [mke2fs]=e2fsprogs)
missing=()
for program in "${!needs[@]}"; do
    command -v "$program" >/dev/null || missing+=("${needs[$program]}")
done
if ((${#missing[@]})); then
    echo "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >/dev/null 2>&1 ||
        skip "cannot install ${missing[*]}"
fi

work=$(mktemp -d)
machine=
finish() {
    [[ -z $machine ]] || { kill "$machine" && wait "$machine"; } 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

# root SUITE PACKAGES: a directory with that Debian, made once.
root() {
    local dir=$cache/$1
    if [[ ! -e $dir.done ]]; then
        rm -rf "$dir"
        mkdir -p "$cache"
        mmdebstrap --quiet --variant=minbase --include="containerd,runc,nftables,iproute2,busybox-static,kmod,procps,$2" \
            --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
            --dpkgopt='path-exclude=/usr/share/locale/*' "$1" "$dir" "deb $mirror $1 main" >"$work/debootstrap" 2>&1 ||
            { tail -n 20 "$work/debootstrap" >&2; skip "Debian $1 cannot be fetched from $mirror"; }
        touch "$dir.done"
    fi
}

fail() {
    echo "FAILED ($suite): $*" >&2
    echo "--- told" >&2 && tail -n 30 "$work/told" >&2
    echo "--- console" >&2 && tail -n 15 "$work/console" >&2
    kubectl get nodes,pods -o wide >&2 || true
    kubectl get events --sort-by=.lastTimestamp 2>/dev/null | tail -n 20 >&2 || true
    exit 1
}
# until WHAT COMMAND...: waits until the command succeeds.
until_() {
    local what=$1 since=$SECONDS
    shift
    until "$@" >/dev/null 2>&1; do
        kill -0 "$machine" 2>/dev/null || [[ $what == "the machine is off" ]] || fail "the machine ended before: $what"
        ((SECONDS - since < patience_s)) || fail "not within $patience_s s: $what"
        sleep 1
    done
    echo "  ok: $what ($((SECONDS - since)) s)"
}
told() { grep -a "^$1 " "$work/told" | tr -d '\r' | sed "s/^$1 //"; }
said() { told "$1" | grep -q .; }
of() { kubectl get pod "$1" -o "jsonpath=$2"; }
is() { [[ $(of "$1" "$2") == "$3" ]]; }
group() {
    local uid
    uid=$(of "$1" '{.metadata.uid}')
    echo "/host/cgroup/kubepods$2/pod$uid"
}
# Lines FILE VALUE: all of them are so. In one go, since a command takes its time there.
hold() {
    local wanted found
    wanted=$(cat)
    # shellcheck disable=SC2046,SC2016
    found=$(kubectl exec eye -- sh -c 'for file; do echo "$file $(cat "$file")"; done' sh $(cut -d' ' -f1 <<<"$wanted")) ||
        fail "cannot read the cgroups"
    diff <(echo "$wanted") <(echo "$found") >&2 || fail "cgroups hold something else"
    echo "  ok: $1"
}
container() { of "$1" '{.status.containerStatuses[0].containerID}' | sed 's#.*//##'; }
summary() { kubectl get --raw /api/v1/nodes/vm/proxy/stats/summary; }

start() {
    rm -rf "$work/disk" "$work/root"
    cp -a "$cache/$suite" "$work/root"
    rm -rf "$work/root/usr/lib/modules" "$work/root/boot"
    cp -a "$cache/bookworm/usr/lib/modules" "$work/root/usr/lib/"
    install -d "$work/root/opt/images" "$work/root/vm"
    strip -o "$work/root/usr/local/bin/skiff" "$skiff"
    install -m 0755 "$(dirname "$skiff")/skiff-cni" "$work/root/usr/local/bin/"
    cp target/images/*.tar "$work/root/opt/images/"
    install -m 0755 tests/vm/init "$work/root/vm/init"
    echo "127.0.0.1 localhost vm" >"$work/root/etc/hosts"
    truncate -s 4G "$work/disk"
    mke2fs -q -t ext4 -F -d "$work/root" "$work/disk"
    rm -rf "$work/root"
    : >"$work/told"
    qemu-system-x86_64 -accel tcg,thread=multi -cpu max -m 2048 -smp 2 -display none -no-reboot \
        -kernel "$(echo "$cache"/bookworm/boot/vmlinuz-*)" -initrd "$(echo "$cache"/bookworm/boot/initrd.img-*)" \
        -drive "file=$work/disk,if=virtio,format=raw,cache=unsafe" \
        -netdev "user,id=n,hostfwd=tcp:127.0.0.1:$port-:6443" -device virtio-net-pci,netdev=n \
        -append "root=/dev/vda rw console=ttyS0 panic=1 init=/vm/init" \
        -serial "file:$work/console" -serial "file:$work/told" >"$work/qemu" 2>&1 </dev/null &
    machine=$!
}

check() {
    until_ "the API is served" said KUBECONFIG
    echo "  $(told CONTAINERD)"
    export KUBECONFIG=$work/kubeconfig
    told KUBECONFIG | base64 -d | sed "s#https://[^\"]*:6443#https://127.0.0.1:$port#" >"$KUBECONFIG"
    until_ "the node is Ready" kubectl wait --for=condition=Ready node/vm --timeout=5s
    until_ "pods are taken" kubectl apply --validate=false -f tests/vm/pods.yaml
    for pod in guaranteed burstable whole eye; do
        until_ "pod $pod runs" is "$pod" '{.status.phase}' Running
    done

    local guaranteed burstable whole id
    guaranteed=$(group guaranteed "") burstable=$(group burstable /burstable) whole=$(group whole /burstable)
    id=$guaranteed/$(container guaranteed)
    hold "limits of pods and containers" <<END
$guaranteed/memory.max $((64 << 20))
$guaranteed/cpu.max 25000 100000
$guaranteed/cpu.weight 35
$burstable/cpu.max max 100000
$burstable/memory.max $((128 << 20))
$whole/memory.max $((96 << 20))
$whole/cpu.max 40000 100000
$id/memory.max $((64 << 20))
$id/memory.oom.group 1
$id/memory.swap.max 0
$burstable/$(container burstable)/memory.swap.max 0
$whole/$(container whole)/memory.max $((96 << 20))
END

    until_ "a container ends as a whole when out of memory" \
        is oom '{.status.containerStatuses[0].lastState.terminated.reason}' OOMKilled

    until_ "a resize is taken" kubectl patch pod guaranteed --subresource=resize -p \
        '{"spec":{"containers":[{"name":"c","resources":{"limits":{"cpu":"500m","memory":"96Mi"},"requests":{"cpu":"500m","memory":"96Mi"}}}]}}'
    until_ "it is in force" is guaranteed '{.status.containerStatuses[0].resources.limits.memory}' 96Mi
    hold "what was resized" <<END
$id/memory.max $((96 << 20))
$guaranteed/cpu.max 50000 100000
END
    is guaranteed '{.status.containerStatuses[0].restartCount}' 0 || fail "the resize has restarted the container"

    summary >"$work/summary" || fail "no summary"
    for key in psi workingSetBytes usageCoreNanoSeconds; do
        grep -q "\"$key\"" "$work/summary" || fail "the summary does not tell $key"
    done
    kubectl get --raw /api/v1/nodes/vm/proxy/metrics/cadvisor >"$work/cadvisor" || fail "no metrics"
    grep -q '^container_pressure_cpu_waiting_seconds_total{container="c",.*pod="guaranteed"' "$work/cadvisor" ||
        fail "no series of what waited for CPU"
    echo "  ok: statistics"

    local before
    before=$(container guaranteed)
    kubectl exec eye -- sh -c 'kill -9 $(pidof containerd) $(pidof skiff)' >/dev/null 2>&1 || true
    until_ "what was killed is back" said ENDED
    until_ "the node is Ready again" kubectl wait --for=condition=Ready node/vm --timeout=5s
    until_ "commands run again" kubectl exec guaranteed -- true
    [[ $(container guaranteed) == "$before" ]] || fail "a container was started anew"

    until_ "a reset is asked for" kubectl exec eye -- sh -c 'touch /host/run/vm-reset'
    kubectl exec eye -- sh -c 'kill $(pidof skiff)' >/dev/null 2>&1 || true
    until_ "the reset is done" grep -aq '^DONE' "$work/told"
    [[ $(told RESET) == 0 ]] || fail "the reset has failed: $(told RESETLOG)"
    said LEFT && fail "the reset has left: $(told LEFT)"
    echo "  ok: nothing is left"
    wait "$machine" || true
    machine=
}

root bookworm linux-image-cloud-amd64
for suite in $suites; do
    [[ $suite == bookworm ]] || root "$suite" ca-certificates
    echo "Debian $suite on cgroup v2:"
    start
    check
done
