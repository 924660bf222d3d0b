#!/usr/bin/env bash
# The package in a real systemd. Each test boots a machine of its own, installs the package there, and talks to an emulator
# that outlives the machine.
#
#     tests/package/check.sh RIG [NAME…]      all tests, or those with one of these in their name
#
# RIG is a program that boots a throw-away Debian with systemd as its PID 1. Its verbs:
#     up --net --deb FILE [--bind-ro DIR:DIR] [--limits] [--small-var SIZE]
#                         boots it, or once more after a crash. --net: it is 192.0.2.1, on a link to a network namespace whose
#                         end is called v0; --limits: MemoryMax= and TasksMax= bite; --small-var: a small ext4 at /var/lib/private
#     exec COMMAND…       in there, with its status
#     client COMMAND…     in the namespace at the other end of the link
#     install FILE        copies a package in and installs it
#     pid                 the process outside that is PID 1 in there
#     crash, powercut     all is killed at once; powercut: what was not synced in the small file system is lost
#     down                the end of it
# Needs root, python3, and target/debian/*.deb (packaging/build-deb.sh).
set -Eeuo pipefail
cd "$(dirname "$0")/../.."

rig=${1:?say the program that boots a Debian with systemd}
shift
target="${CARGO_TARGET_DIR:-$PWD/target}"
deb=$(ls -t "$target"/debian/upspool_*.deb | head -n 1)
cargo build --locked --release --workspace --bins
scratch=$(mktemp -d)
emulator=
current=start

finish() {
    "$rig" down >/dev/null 2>&1 || true
    if [ -n "$emulator" ]; then kill "$emulator" || true; fi
    rm -rf "$scratch"
}
failed() {
    echo "FAILED in $current at line $1: $2" >&2
    "$rig" exec journalctl -u upspool -n 40 --no-pager >&2 || true
}
trap 'failed $LINENO "$BASH_COMMAND"' ERR
trap finish EXIT

x() { "$rig" exec "$@"; }
show() { x systemctl show -p "$1" --value upspool; }
log() { x journalctl -u upspool --no-pager -o cat; }
# Reads all of it, so that what comes through a pipe is never cut off.
says() { grep -F -- "$1" >/dev/null || { echo "nothing says: $1" >&2; return 1; }; }
# `!` alone would not end the script.
fails() {
    if "$@" >"$scratch/said" 2>&1; then
        echo "this should have failed: $*" >&2
        return 1
    fi
}
equal() { [ "$1" = "$2" ] || { echo "«$1» is not «$2»${3:+: $3}" >&2; return 1; }; }
# within SECONDS COMMAND: until a command does well in the machine.
within() {
    local until=$((SECONDS + $1))
    until x bash -c "$2" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$until" ] || { echo "not within $1 s: $2" >&2; return 1; }
        sleep 0.1
    done
}
stored() { x upspool wait --timeout 120s "$@" >/dev/null; }

# Outside of the machine, in a network of its own.
start_emulator() {
    unshare --net sh -c 'ip link set lo up && exec "$0" --listen 0.0.0.0:8099' "$target/release/upspool-emulator" >"$scratch/emulator" 2>&1 &
    emulator=$!
    until [ -s "$scratch/emulator" ]; do
        kill -0 "$emulator"
        sleep 0.05
    done
}

# The other end of the machine's link becomes the emulator's.
plug() {
    # That of a machine that was cut off may be there still: its namespace ends a moment later.
    nsenter --net -t "$emulator" ip link del v0 2>/dev/null || true
    "$rig" client ip link set v0 netns "$emulator"
    nsenter --net -t "$emulator" sh -c 'ip addr add 192.0.2.2/24 dev v0 && ip link set v0 up'
}

# admin PATH [BODY]: the emulator's controls.
admin() {
    nsenter --net -t "$emulator" python3 - "$@" <<'PYTHON'
import sys, urllib.request
body = sys.argv[2].encode() if len(sys.argv) > 2 else None
print(urllib.request.urlopen("http://127.0.0.1:8099/_emulator/" + sys.argv[1], body).read().decode())
PYTHON
}

# asked EXPRESSION: of `all`, what the server was asked, and `parts`, those of them that it took.
asked() {
    admin requests | python3 -c '
import json, sys
all = json.load(sys.stdin)["requests"]
parts = [one["sha256"] for one in all if one["operation"] == "part" and one["worked"]]
print(eval(sys.argv[1]))' "$1"
}

# boot [OPTION…]: a new machine with the package, a user who scans, and an emulator that knows nothing.
boot() {
    "$rig" down >/dev/null 2>&1 || true
    "$rig" up --net --deb "$deb" "$@" 2>&1 | sed 's/^/    /'
    plug
    admin reset '' >/dev/null
    x bash -c 'useradd -m -s /bin/bash scanner && mkdir -p /srv/drop && chown scanner:upspool /srv/drop && chmod 2775 /srv/drop'
}

# configure [FOLDER LINE…]: the key, the server, and one folder, with these lines for it.
configure() {
    x install -m 640 -o root -g upspool /dev/stdin /etc/upspool/openai-api-key <<<"$key"
    x tee /etc/upspool/upspool.toml >/dev/null <<TOML
[api]
base_url = "http://192.0.2.2:8099/v1"
plain_http = true
key_file = "/etc/upspool/openai-api-key"
[upload]
parallel_parts = 4
part_size = "16 MiB"
[[folder]]
path = "/srv/drop"
purpose = "user_data"
$(printf '%s\n' "$@")
TOML
}

# drop_in LINE…: the unit's, beside what is there.
drop_in() {
    x mkdir -p /etc/systemd/system/upspool.service.d
    printf '%s\n' "$@" | x tee -a /etc/systemd/system/upspool.service.d/test.conf >/dev/null
    x systemctl daemon-reload
}

# drop NAME SIZE: a file of noise, whole from the first moment.
drop() {
    x bash -c "head -c $2 /dev/urandom >/srv/staged && chown scanner: /srv/staged && mv /srv/staged /srv/drop/$1"
}

# A file of eight Parts is on its way: two are in the ledger, four go so slowly that they are cut off by whatever comes. Each is
# larger than what the kernel holds of a connection, so that nothing arrives of itself after the end of its sender.
under_way() {
    admin script '{"fault": [{"operation": "part", "from": 3, "times": 4, "action": {"slow": {"bytes_per_second": 100000}}}]}' >/dev/null
    drop large.bin 128M
    within 30 'upspool show /srv/drop/large.bin --json | grep "\"parts_stored\":2,"'
}

# No Part was taken twice, and one Upload was enough.
once_and_whole() {
    equal "$(asked 'len(parts), len(set(parts)), sum(one["operation"] == "create" for one in all)')" "(8, 8, 1)" "Parts taken, different ones, Uploads"
    equal "$(admin files | python3 -c 'import json, sys; print(len(json.load(sys.stdin)["files"]))')" 1 "Files"
}

for cases in tests/package/cases/*.sh; do
    # shellcheck source=/dev/null
    . "$cases"
done

key=$("$target/release/upspool-emulator" --help | grep -o 'sk-[a-z]*' | head -n 1)
start_emulator
passed=0
for name in $(declare -F | sed -n 's/^declare -f test_//p'); do
    for wanted in "${@:-}"; do
        [[ $name == *"$wanted"* ]] || continue
        current=$name from=$SECONDS
        echo "==> ${name//_/ }"
        "test_$name"
        echo "--- ok, $((SECONDS - from)) s"
        passed=$((passed + 1))
        break
    done
done
"$rig" down >/dev/null 2>&1
echo
echo "$passed passed, 0 failed"
[ "$passed" -gt 0 ]
