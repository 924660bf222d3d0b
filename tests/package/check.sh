#!/usr/bin/env bash
# The package in a real systemd: installed, configured, used, killed, upgraded, removed, purged.
#
#     tests/package/check.sh RIG
#
# RIG is a program that boots a throw-away Debian with systemd as its PID 1 and has the verbs `up --deb FILE --bind-ro DIR`, `exec
# COMMAND…` (with its status), `install FILE` and `down`. Needs root, and target/debian/*.deb (packaging/build-deb.sh); the
# emulator of the release build is run in there.
set -Eeuo pipefail
cd "$(dirname "$0")/../.."

rig=${1:?say the program that boots a Debian with systemd}
target="${CARGO_TARGET_DIR:-$PWD/target}"
deb=$(ls -t "$target"/debian/upspool_*.deb | head -n 1)
cargo build --locked --release -p upspool-emulator
trap 'echo "FAILED at line $LINENO: $BASH_COMMAND" >&2; "$rig" exec journalctl -u upspool -n 30 --no-pager >&2 || true' ERR
trap '"$rig" down >/dev/null 2>&1 || true' EXIT

x() { "$rig" exec "$@"; }
say() { echo; echo "== $*"; }
# Waits for a command to do well.
until_ok() {
    local tries=0
    until x bash -c "$1" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || { echo "not within 20 s: $1" >&2; return 1; }
        sleep 0.2
    done
}

say "Debian's own tools read the package"
dpkg-deb --info "$deb" | sed -n 's/^ \(Package\|Version\|Depends\)/  \1/p'
contents=$(dpkg-deb --contents "$deb")
for path in ./usr/bin/upspool ./usr/lib/sysusers.d/upspool.conf ./etc/upspool/upspool.toml ./usr/share/man/man1/upspool-run.1.gz; do
    grep -q " $path\$" <<<"$contents"
done

"$rig" up --deb "$deb" --bind-ro "$target/release:/opt/build"

say "nothing is started before a folder is configured, and a start says what is missing"
! x systemctl is-active --quiet upspool
! x systemctl is-enabled --quiet upspool
x systemctl start upspool || true
until_ok "systemctl is-failed upspool"
x systemctl show -p ExecMainStatus --value upspool | grep -qx 78
x journalctl -u upspool --no-pager -o cat | grep -F "there is none to watch"
x bash -c "stat -c '%U:%G %a' /etc/upspool" | grep -qx "root:upspool 750"

say "configured, it takes what another user drops, moves it and writes the journal's fields"
x bash -c 'useradd -m scanner && mkdir -p /srv/drop && chown scanner:upspool /srv/drop && chmod 2775 /srv/drop'
x systemd-run --quiet --unit emulator /opt/build/upspool-emulator --listen 127.0.0.1:8099
key=$("$target/release/upspool-emulator" --help | grep -o 'sk-[a-z]*' | head -n 1)
x bash -c "install -m 640 -o root -g upspool /dev/stdin /etc/upspool/openai-api-key <<<'$key'
cat >/etc/upspool/upspool.toml <<'TOML'
[api]
base_url = \"http://127.0.0.1:8099/v1\"
key_file = \"/etc/upspool/openai-api-key\"
[[folder]]
path = \"/srv/drop\"
purpose = \"user_data\"
after_upload = { move = \"done\" }
receipt = true
TOML
mkdir -p /etc/systemd/system/upspool.service.d
printf '[Service]\nReadWritePaths=/srv/drop\n' >/etc/systemd/system/upspool.service.d/drop.conf
systemctl daemon-reload
systemctl reset-failed upspool
systemctl enable --now upspool"
x systemctl is-active upspool
x su scanner -c 'echo from a scanner >/srv/drop/scan.txt'
until_ok 'test -e /srv/drop/scan.txt.upspool.json && test -e /srv/drop/done/scan.txt'
id=$(x bash -c "python3 -c 'import json; print(json.load(open(\"/srv/drop/scan.txt.upspool.json\"))[\"file_id\"])'")
echo "  $id"
x journalctl -u upspool --no-pager -o json "UPSPOOL_FILE_ID=$id" | grep -q '"UPSPOOL_EVENT":"stored"'
x systemctl show -p StatusText --value upspool
x upspool list | grep -F "$id"
x su upspool -s /bin/sh -c 'upspool status'
x su upspool -s /bin/sh -c 'upspool why /srv/drop/scan.txt' | grep -F "stored as $id"
! x su nobody -s /bin/sh -c 'upspool list'
x upspool wait /srv/drop/scan.txt | grep -F "$id"

say "a reload with a wrong file fails and changes nothing; with a right one it is in force"
x bash -c 'cp -p /etc/upspool/upspool.toml /root/right.toml && echo "hiden = true" >>/etc/upspool/upspool.toml'
! x systemctl reload upspool
x systemctl is-active --quiet upspool
x journalctl -u upspool --no-pager -o cat | grep -F 'did you mean "hidden"?'
pid=$(x systemctl show -p MainPID --value upspool)
x bash -c 'cp -p /root/right.toml /etc/upspool/upspool.toml && mkdir -p /srv/other && chown upspool: /srv/other
printf "[[folder]]\npath = \"/srv/other\"\npurpose = \"user_data\"\n" >>/etc/upspool/upspool.toml'
x systemctl reload upspool
x bash -c 'echo other >/srv/other/other.txt'
x upspool wait --timeout 60s /srv/other/other.txt
[ "$(x systemctl show -p MainPID --value upspool)" = "$pid" ]

say "kill -9, and it goes on; a stop ends well"
pid=$(x systemctl show -p MainPID --value upspool)
x kill -9 "$pid"
until_ok "systemctl is-active upspool && test \$(systemctl show -p MainPID --value upspool) != $pid"
x systemctl stop upspool
x systemctl show -p Result --value upspool | grep -qx success
x systemctl start upspool

say "an upgrade restarts it and sends nothing again"
requests() { x bash -c 'sqlite3 /var/lib/upspool/upspool.db "SELECT count(*) FROM history" 2>/dev/null || upspool export --format jsonl | wc -l'; }
before=$(requests)
pid=$(x systemctl show -p MainPID --value upspool)
"$rig" install "$deb"
until_ok "systemctl is-active upspool && test \$(systemctl show -p MainPID --value upspool) != $pid"
x upspool wait --timeout 30s
[ "$(requests)" = "$before" ]
x grep -q 8099 /etc/upspool/upspool.toml

say "remove keeps the ledger, purge takes it away"
x dpkg -r upspool
x test -e /var/lib/upspool/upspool.db
x dpkg -i "/$(basename "$deb")" 2>/dev/null || "$rig" install "$deb"
x upspool list --state-dir /var/lib/upspool | grep -F "$id"
x dpkg -P upspool
! x test -e /var/lib/upspool
! x test -e /etc/upspool

echo
echo "the package does what it should"
