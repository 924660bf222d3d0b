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
# `!` would do, but what it turns round never ends a script.
not() {
    if "$@"; then echo "did well, and should not: $*" >&2; return 1; fi
}
# Waits for a command to do well.
until_ok() {
    local tries=0
    until x bash -c "$1" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || { echo "not within 20 s: $1" >&2; return 1; }
        sleep 0.2
    done
}

# `as USER CODE WORDS COMMAND…`: the command ends with this code, and says these words on one of its outputs.
as() {
    local user=$1 code=$2 words=$3 said status=0
    shift 3
    said=$(x runuser -u "$user" -- sh -c 'umask 077; cd /; exec upspool "$@"' sh "$@" 2>&1) || status=$?
    if [ "$status" != "$code" ] || ! grep -qF -- "$words" <<<"$said"; then
        echo "as $user, upspool $*: $status and not $code, or without «$words»:" >&2
        echo "$said" >&2
        return 1
    fi
}

# The service runs, and has nothing to do.
every_command_by_its_users() {
    local user file command store=/var/lib/upspool
    say "root and a member of the group give every order; nobody else does, and is told how to join"
    x bash -c 'useradd -m op && usermod -aG upspool op'
    for user in root op; do
        file=/srv/drop/$user.txt
        as "$user" 0 "all folders: paused" pause
        as "$user" 0 "folder drop: paused" pause --folder drop
        x su scanner -c "echo of $user >$file"
        until_ok "upspool list --state queued | grep -F $file"
        as "$user" 0 "is next" bump "$file"
        as "$user" 0 "is cancelled" cancel "$file"
        as "$user" 1 "is cancelled already" cancel "$file"
        as "$user" 0 "is queued again" retry "$file"
        as "$user" 1 "only unresolved jobs" resolve "$file" --again
        as "$user" 0 "all folders: resumed" resume
        as "$user" 0 "file-" wait --timeout 60s "$file"
        as "$user" 0 "" wait --timeout 60s
        as "$user" 0 "0 failed jobs queued again" retry --failed
        as "$user" 0 "0 jobs forgotten" prune --older-than 365d
        as "$user" 0 "the service runs" status
        as "$user" 0 "file-" list
        as "$user" 0 "file-" show "$file"
        as "$user" 0 "stored as file-" why "$file"
        as "$user" 0 "file-" export
        as "$user" 0 "copied to" backup "/tmp/backup-of-$user.db"
        as "$user" 0 ".TH" man
        as "$user" 0 "complete" completions bash
    done
    x journalctl -u upspool --no-pager -o json UPSPOOL_EVENT=asked | grep -qF "\"UPSPOOL_UID\":\"$(x id -u op)\""
    as root 75 "another upspool (process" rebuild
    as op 1 "Permission denied" rebuild
    as op 78 "openai-api-key" run
    as op 78 "openai-api-key" check
    for command in pause resume "retry 1" "cancel 1" "bump 1" "resolve 1 --again" "prune --older-than 1d" wait list \
        "show 1" "why /srv/drop/scan.txt" status export "backup /tmp/backup-of-nobody.db"; do
        # shellcheck disable=SC2086
        as nobody 78 "sudo usermod -aG upspool nobody, and log in again" $command
        # shellcheck disable=SC2086
        as nobody 1 "sudo usermod -aG upspool nobody, and log in again" $command --state-dir $store
    done

    say "the ledger and the key are not the group's, and what it asks waits for a service"
    x stat -c '%U:%G %a' $store | grep -qx 'upspool:upspool 750'
    x stat -c '%U:%G %a' $store/asks | grep -qx 'upspool:upspool 1770'
    for command in "touch $store/x" "mv $store/asks $store/x" "rm -f $store/upspool.db" ": >>$store/upspool.db" \
        "cat /etc/upspool/openai-api-key"; do
        not x runuser -u op -- sh -c "$command" 2>/dev/null
    done
    x systemctl stop upspool
    as op 0 "recorded; taken up when the service starts" pause
    x systemctl start upspool
    until_ok "upspool status | grep -F paused"
    as op 0 "all folders: resumed" resume
    x bash -c "test -z \"\$(ls -A $store/asks)\""
}

say "Debian's own tools read the package"
dpkg-deb --info "$deb" | sed -n 's/^ \(Package\|Version\|Depends\)/  \1/p'
contents=$(dpkg-deb --contents "$deb")
for path in ./usr/bin/upspool ./usr/lib/sysusers.d/upspool.conf ./etc/upspool/upspool.toml ./usr/share/man/man1/upspool-run.1.gz; do
    grep -q " $path\$" <<<"$contents"
done

"$rig" up --deb "$deb" --bind-ro "$target/release:/opt/build"

say "nothing is started before a folder is configured, and a start says what is missing"
not x systemctl is-active --quiet upspool
not x systemctl is-enabled --quiet upspool
x systemctl start upspool || true
until_ok "systemctl is-failed upspool"
x systemctl show -p ExecMainStatus --value upspool | grep -qx 78
x journalctl -u upspool --no-pager -o cat | grep -F "there is none to watch"
x bash -c "stat -c '%U:%G %a' /etc/upspool" | grep -qx "root:upspool 750"

say "configured, it takes what another user drops, moves it and writes the journal's fields"
x bash -c 'useradd -m scanner && mkdir -p /srv/drop && chown scanner:upspool /srv/drop && chmod 2775 /srv/drop'
x systemd-run --quiet --unit emulator /opt/build/upspool-emulator --listen 127.0.0.1:8099
key=$("$target/release/upspool-emulator" --help | grep -o 'sk-[a-z]*' | head -n 1)
x bash -c "install -m 400 -o upspool -g upspool /dev/stdin /etc/upspool/openai-api-key <<<'$key'
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
not x su nobody -s /bin/sh -c 'upspool list'
x upspool wait /srv/drop/scan.txt | grep -F "$id"

every_command_by_its_users

say "a reload with a wrong file fails and changes nothing; with a right one it is in force"
x bash -c 'cp -p /etc/upspool/upspool.toml /root/right.toml && echo "hiden = true" >>/etc/upspool/upspool.toml'
not x systemctl reload upspool
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
not x test -e /var/lib/upspool
not x test -e /etc/upspool

echo
echo "the package does what it should"
