#!/usr/bin/env bash
# Stops what `make up` started and removes every trace of it. Carries on over
# failures, so that one does not leave the rest behind.
set -uo pipefail
cd "$(dirname "$0")/.."
skiff=target/release/skiff
testhost=target/release/testhost
data=${DATA_DIR:-/var/lib/skiff}
hosts=$data-hosts
status=0

if [[ ! -x $skiff ]]; then
    echo "there is no $skiff: run \`make build\` first, then \`make down\`" >&2
    exit 1
fi
for dir in "$hosts"/*/; do
    [[ -d $dir ]] || continue
    dir=${dir%/}
    if [[ -f $dir/host.json ]]; then
        $testhost exec "$dir" "$PWD/$skiff" reset --yes --data-dir "$dir/data" >/dev/null || status=1
        $testhost down "$dir" || status=1
    fi
    rm -rf "$dir" || status=1
done
[[ ! -d $hosts ]] || rmdir "$hosts" || status=1
$skiff reset --yes --data-dir "$data" || status=1
$testhost network down 1 || status=1
exit $status
