# shellcheck shell=bash
# The unit's sandbox: what it needs for a configuration, its limits, its keys, and what hooks may do in it.

test_check_says_the_drop_in_that_the_sandbox_needs() {
    boot
    x bash -c 'groupadd scanners && usermod -aG scanners scanner && mkdir -p /mnt/scans && mount -t tmpfs tmpfs /mnt/scans
install -d -o scanner -g scanners -m 2770 /mnt/scans/in && install -d -m 2775 -o scanner -g upspool /srv/archive
chmod 711 /home/scanner && install -d -o scanner -g upspool -m 2775 "/home/scanner/my drop"'
    configure
    x upspool check >"$scratch/plain"
    fails grep -F "systemd unit" "$scratch/plain"
    x tee -a /etc/upspool/upspool.toml >/dev/null <<'TOML'
[[folder]]
path = "/mnt/scans/in"
purpose = "user_data"
receipt = true
after_upload = { move = "/srv/archive" }
[[folder]]
path = "/home/scanner/my drop"
purpose = "user_data"
receipt = true
TOML
    # As it is, the unit lets it read neither.
    fails x systemctl start upspool
    equal "$(show ExecMainStatus)" 78
    x upspool check | sed -n '/^systemd unit/,$p' | sed 's/^/    /'
    x bash -c "upspool check --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[\"unit\"][\"drop_in\"], end=\"\")' >/root/drop-in"
    x bash -c 'mkdir -p /etc/systemd/system/upspool.service.d && cp /root/drop-in /etc/systemd/system/upspool.service.d/folders.conf && systemctl daemon-reload'
    x systemctl reset-failed upspool
    x systemctl start upspool
    fails bash -c "\"$rig\" exec systemd-analyze verify upspool.service 2>&1 | grep -F folders.conf"
    x su scanner -c 'echo 1 >/mnt/scans/in/a.txt; echo 2 >~/"my drop/b.txt"'
    stored /mnt/scans/in/a.txt '/home/scanner/my drop/b.txt'
    x test -e /srv/archive/a.txt
    x test -e /mnt/scans/in/a.txt.upspool.json
    x test -e '/home/scanner/my drop/b.txt.upspool.json'
    # Requires= names it only where it comes from fstab or a unit, as this one does not.
    show After | says "mnt-scans.mount"
    show RequiresMountsFor | says "/mnt/scans"
    # Within the unit it does not look at what the sandbox shows.
    x systemctl reload upspool
    log >"$scratch/log"
    fails grep -F "systemd unit" "$scratch/log"
}

test_credential_that_the_service_user_cannot_read_as_a_file() {
    # As the unit's comments say it.
    boot
    configure
    x sed -i '/^key_file/d' /etc/upspool/upspool.toml
    x bash -c 'chown root:root /etc/upspool/openai-api-key && chmod 400 /etc/upspool/openai-api-key'
    drop_in '[Service]' 'LoadCredential=openai-api-key:/etc/upspool/openai-api-key' 'Environment=CREDENTIALS_DIRECTORY=%d'
    x systemctl start upspool
    drop one.txt 100
    stored /srv/drop/one.txt
    fails x su upspool -s /bin/sh -c 'cat /etc/upspool/openai-api-key'
    x systemctl reload upspool
}

test_new_key_without_restart() {
    local pid
    boot
    configure
    x bash -c 'echo sk-old >/etc/upspool/openai-api-key'
    x systemctl start upspool
    pid=$(show MainPID)
    drop one.txt 100
    within 30 'upspool status | grep -F key-rejected'
    x bash -c 'cat >/etc/upspool/openai-api-key' <<<"$key"
    stored /srv/drop/one.txt
    equal "$(show MainPID)" "$pid"
    equal "$(show NRestarts)" 0
}

# peak CONTROLLER FILE: of the service's cgroup, wherever such hierarchies are mounted.
peak() { x bash -c "cat /sys/fs/cgroup/$1/system.slice/upspool.service/$2 /sys/fs/cgroup/$1/*/system.slice/upspool.service/$2 2>/dev/null | head -n 1"; }

test_memory_and_tasks_within_the_units_limits() {
    local memory tasks
    boot --limits
    configure
    x sed -i 's/^parallel_parts.*/parallel_parts = 256/; s/^part_size.*/part_size = "1 MiB"/' /etc/upspool/upspool.toml
    x systemctl start upspool
    drop large.bin 320M
    for number in $(seq 200); do echo "small $number"; done | x bash -c 'while read -r line; do echo "$line" >"/srv/drop/${line// /-}"; done'
    stored
    memory=$(peak memory memory.max_usage_in_bytes) tasks=$(show TasksCurrent)
    equal "$(show MemoryMax) $(show TasksMax)" "1073741824 1024"
    equal "$(peak memory memory.limit_in_bytes) $(peak pids pids.max)" "1073741824 1024" "what the kernel holds it to"
    echo "    at most $((memory / 1048576)) MiB with the page cache, $tasks tasks"
    equal "$(show NRestarts) $(show Result)" "0 success"
    equal "$(x upspool list --state stored --limit 300 --json | wc -l)" 201
    equal "$(asked 'len(parts) == len(set(parts))')" True
}

test_hooks_in_the_sandbox() {
    boot
    x bash -c 'install -m 755 /dev/stdin /usr/local/bin/told.py' <<'PYTHON'
#!/usr/bin/python3
# What hooks of this kind do: the record, a temporary file, the network, a file of their own.
import json, os, subprocess, sys, tempfile, urllib.request
record = json.load(sys.stdin)
with tempfile.NamedTemporaryFile() as scratch:
    scratch.write(b"x" * 100_000)
with urllib.request.urlopen("http://192.0.2.2:8099/_emulator/files") as answer:
    assert record["file_id"] in answer.read().decode()
assert subprocess.run(["sort"], input="b\na\n", capture_output=True, text=True, check=True).stdout == "a\nb\n"
with open(os.environ["HOME"] + "/told", "a") as told:
    told.write(record["filename"] + "\n")
# What a compiler at run time (Node, Java) wants is refused.
try:
    import mmap
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    sys.exit(0 if record["filename"] == "free.txt" else "memory that is written and run")
except PermissionError:
    sys.exit(0 if record["filename"] != "free.txt" else "no memory that is written and run")
PYTHON
    x bash -c 'install -m 755 /dev/stdin /usr/local/bin/told.sh' <<'SHELL'
#!/bin/bash
set -e
scratch=$(mktemp)
cat >"$scratch" <<END
$UPSPOOL_PATH failed with $UPSPOOL_CODE
END
curl -fsS http://192.0.2.2:8099/_emulator/variants >/dev/null
cat "$scratch" >>"$HOME/failed"
rm "$scratch"
if touch /srv/drop/elsewhere 2>/dev/null || touch /tmp/elsewhere 2>/dev/null; then exit 9; fi
SHELL
    configure 'on_stored = ["/usr/local/bin/told.py"]' 'on_failed = ["/usr/local/bin/told.sh"]' 'preflight = "reject"'
    x upspool check >"$scratch/plain"
    fails grep -F "systemd unit" "$scratch/plain"
    x systemctl start upspool
    drop one.txt 100
    stored /srv/drop/one.txt
    x upspool show /srv/drop/one.txt --json | says '"finish":{"state":"done"'
    equal "$(x cat /var/lib/upspool/told)" one.txt
    x bash -c 'echo "{ no json" >/srv/drop/bad.jsonl'
    fails x upspool wait --timeout 60s /srv/drop/bad.jsonl
    equal "$(x cat /var/lib/upspool/failed)" "/srv/drop/bad.jsonl failed with preflight-failed"
    # Nothing of what they left lies anywhere but in their own places.
    fails x test -e /srv/drop/elsewhere
    drop_in '[Service]' 'MemoryDenyWriteExecute=no'
    x systemctl restart upspool
    drop free.txt 100
    stored /srv/drop/free.txt
    x upspool show /srv/drop/free.txt --json | says '"finish":{"state":"done"'
}
