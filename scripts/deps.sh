#!/usr/bin/env bash
# Installs the Debian packages that building and running Skiff need, if missing.
set -euo pipefail

declare -A needs=(
    [containerd]=containerd [runc]=runc [nft]=nftables [protoc]=protobuf-compiler
    [ip]=iproute2 [cc]=gcc [ps]=procps
)
missing=()
for program in "${!needs[@]}"; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null || missing+=("${needs[$program]}")
done
# The static busybox goes into images; the dynamic one would not run there.
dpkg -s busybox-static >/dev/null 2>&1 || missing+=(busybox-static)
if ((${#missing[@]})); then
    if ((EUID != 0)); then
        echo "these packages are missing: ${missing[*]}; run this as root, or: sudo apt-get install ${missing[*]}" >&2
        exit 1
    fi
    echo "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
command -v cargo >/dev/null || { echo "cargo is missing: install Rust from https://rustup.rs" >&2; exit 1; }
