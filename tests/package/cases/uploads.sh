# shellcheck shell=bash
# What ends the service in the middle of an Upload, and a disk that is full: nothing is lost, nothing is sent twice.

test_stop_while_a_large_file_goes_slowly() {
    local began
    boot
    configure
    x systemctl start upspool
    under_way
    began=$SECONDS
    x systemctl stop upspool
    echo "    stopped within $((SECONDS - began)) s"
    [ $((SECONDS - began)) -le 45 ]
    equal "$(show Result)" success
    equal "$(asked 'len(parts)')" 2 "Parts taken before the stop"
    x systemctl start upspool
    stored /srv/drop/large.bin
    once_and_whole
}

test_watchdog_ends_a_service_that_hangs() {
    local pid
    boot
    configure
    drop_in '[Service]' 'WatchdogSec=3s' 'RestartSec=100ms'
    x systemctl start upspool
    under_way
    pid=$(show MainPID)
    x kill -STOP "$pid"
    within 60 "systemctl is-active upspool && test \$(systemctl show -p MainPID --value upspool) != $pid"
    x journalctl -u upspool --no-pager -o cat | says "Watchdog timeout"
    equal "$(show NRestarts)" 1
    stored /srv/drop/large.bin
    once_and_whole
}

test_reboot_while_a_large_file_is_sent() {
    local before pid
    boot
    configure
    x systemctl enable --now --quiet upspool
    under_way
    before=$("$rig" pid)
    x systemctl reboot || true
    # Who enters a machine that ends may keep it from ending, so that it is looked at from outside.
    until pid=$("$rig" pid 2>/dev/null) && [ "$pid" != "$before" ]; do
        [ "$SECONDS" -lt $((from + 180)) ]
        sleep 0.2
    done
    within 60 'systemctl is-active upspool'
    stored /srv/drop/large.bin
    once_and_whole
}

# The state on a disk of its own, which loses what was not synced.
small_disk() {
    boot --small-var 20M
    # With it systemd keeps the state there.
    drop_in '[Service]' 'DynamicUser=yes'
    configure
    x systemctl enable --now --quiet upspool
    equal "$(x readlink -f /var/lib/upspool)" /var/lib/private/upspool
}

test_power_cut_while_a_large_file_is_sent() {
    small_disk
    under_way
    "$rig" powercut 2>&1 | sed 's/^/    /'
    "$rig" up --net --small-var 20M 2>&1 | sed 's/^/    /'
    plug
    within 30 'systemctl is-active upspool'
    stored /srv/drop/large.bin
    once_and_whole
    x upspool show /srv/drop/large.bin | says "stored"
}

test_full_disk_holds_the_sending_and_loses_nothing() {
    local number
    small_disk
    drop before.txt 100
    stored /srv/drop/before.txt
    x bash -c 'dd if=/dev/zero of=/var/lib/private/filler bs=1M 2>/dev/null; dd if=/dev/zero of=/var/lib/private/filler.rest bs=512 2>/dev/null; true'
    for number in $(seq 60); do drop "file-$number.txt" 2000; done
    within 60 'systemctl show -p StatusText --value upspool | grep -F "store-full"'
    x upspool status | says "store-full"
    equal "$(show NRestarts)" 0
    x rm /var/lib/private/filler /var/lib/private/filler.rest
    stored
    equal "$(x upspool list --state stored --limit 100 --json | wc -l)" 61
    equal "$(admin files | python3 -c 'import json, sys; print(len(json.load(sys.stdin)["files"]))')" 61 "Files"
    equal "$(show NRestarts)" 0
}
