#!/usr/bin/env bash
# newer-runtime.sh DIR: puts the containerd and runc of one of Debian's newer suites into DIR/bin, for tests
# that are run with it in front of the PATH. Installs nothing. Made once; remove DIR to have it made anew.
set -euo pipefail
dir=$(realpath -m "$1")
suite=${SUITE:-sid}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
[[ ! -e $dir/done ]] || exit 0

rm -rf "$dir"
mkdir -p "$dir"/{apt/lists/partial,apt/cache/archives/partial,packages,root,bin}
: >"$dir/apt/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$dir/apt/sources"
cat >"$dir/apt/conf" <<END
Dir::Etc::sourcelist "$dir/apt/sources";
Dir::Etc::sourceparts "-";
Dir::Etc::preferencesparts "-";
Dir::State::lists "$dir/apt/lists";
Dir::State::status "$dir/apt/status";
Dir::Cache "$dir/apt/cache";
Acquire::Languages "none";
APT::Sandbox::User "root";
END
(
    cd "$dir/packages"
    export APT_CONFIG=$dir/apt/conf
    apt-get update -qq
    apt-get download -qq containerd runc libc6 libseccomp2 patchelf libstdc++6 libgcc-s1
) >"$dir/log" 2>&1 || {
    tail -n 5 "$dir/log" >&2
    exit 1
}
for package in "$dir"/packages/*.deb; do dpkg -x "$package" "$dir/root"; done
libraries=$(echo "$dir"/root/usr/lib/*-linux-gnu)
loader=$(echo "$libraries"/ld-linux-*.so.*)
patchelf() { "$loader" --library-path "$libraries" "$dir/root/usr/bin/patchelf" "$@"; }
for program in containerd containerd-shim-runc-v2 ctr runc; do
    cp -L "$dir/root/usr/bin/$program" "$dir/bin/"
    # Some want a newer C library than this machine's; runc starts itself again, so a wrapper will not do.
    ldd "$dir/bin/$program" 2>&1 | grep -q 'not found' || continue
    patchelf --set-interpreter "$loader" --set-rpath "$libraries" "$dir/bin/$program"
done
rm -rf "$dir"/{apt,packages,root/usr/bin,root/usr/sbin,root/usr/share,root/usr/libexec}
"$dir/bin/containerd" --version
"$dir/bin/runc" --version | head -n 1
touch "$dir/done"
