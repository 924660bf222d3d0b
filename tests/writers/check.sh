#!/usr/bin/env bash
# Real programs write into a watched folder: cp, rsync, vim, git, sshd, Samba, a browser and others, against the service
# as it is by default and the emulator. Then the kernel's limits of inotify. See check.py and limits.py; with words, only
# the programs of such names.
#
# Installs what is missing, servers too: for a machine that can be thrown away. It needs root, as the servers do.
set -Eeuo pipefail
cd "$(dirname "$0")/../.."

root=()
[ "$(id -u)" = 0 ] || root=(sudo)

packages() {
    local pair missing=() policy=/usr/sbin/policy-rc.d
    # Each program, and the package that it comes in.
    for pair in rsync:rsync curl:curl wget:wget vim:vim unzip:unzip git:git strace:strace scp:openssh-client \
        /usr/sbin/sshd:openssh-server /usr/sbin/smbd:samba smbclient:smbclient /usr/sbin/vsftpd:vsftpd \
        chromium:chromium chromedriver:chromium-driver; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    echo "installing: ${missing[*]}"
    # None of the servers is to run but those that the check starts.
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' | "${root[@]}" install -m 755 /dev/stdin $policy
        trap '"${root[@]}" rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    "${root[@]}" apt-get update -q
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qy --no-install-recommends "${missing[@]}" >/dev/null
}

packages
cargo build --quiet --locked --workspace
export PYTHONDONTWRITEBYTECODE=1
target=${CARGO_TARGET_DIR:-target}/debug
python=$(command -v python3)
"${root[@]}" "$python" tests/writers/check.py "$target" "$@"
"${root[@]}" "$python" tests/writers/limits.py "$target"
