# shellcheck shell=bash
# The package's life: installed, configured, reloaded, killed, upgraded, removed, purged.

test_install_starts_nothing_and_a_first_start_says_what_is_missing() {
    local contents path
    dpkg-deb --info "$deb" | sed -n 's/^ \(Package\|Version\|Depends\)/    \1/p'
    contents=$(dpkg-deb --contents "$deb")
    for path in ./usr/bin/upspool ./usr/lib/sysusers.d/upspool.conf ./etc/upspool/upspool.toml ./usr/share/man/man1/upspool-run.1.gz; do
        says " $path" <<<"$contents"
    done
    boot
    fails x systemctl is-active --quiet upspool
    fails x systemctl is-enabled --quiet upspool
    equal "$(x stat -c '%U:%G %a' /etc/upspool)" "root:upspool 750"
    # No folder, as it was installed.
    fails x systemctl start upspool
    equal "$(show ExecMainStatus)" 78
    log | says "there is none to watch"
    # A folder, and no key.
    configure
    x rm /etc/upspool/openai-api-key
    fails x systemctl start upspool
    equal "$(show ExecMainStatus)" 78
    log | says "openai-api-key"
    # A key that only root may read.
    x install -m 600 /dev/stdin /etc/upspool/openai-api-key <<<"$key"
    fails x systemctl start upspool
    log | says "Permission denied"
    x upspool check --config /etc/upspool/upspool.toml | says "upspool may not read /etc/upspool/openai-api-key"
    # Exit status 78 is not tried again.
    equal "$(show NRestarts)" 0
    x chown root:upspool /etc/upspool/openai-api-key
    x chmod 640 /etc/upspool/openai-api-key
    x systemctl start upspool
    drop first.txt 100
    stored /srv/drop/first.txt
}

test_use_by_another_user_with_move_receipt_and_journal() {
    local id
    boot
    configure 'after_upload = { move = "done" }' 'receipt = true'
    drop_in '[Service]' 'ReadWritePaths=/srv/drop'
    x systemctl enable --now --quiet upspool
    x su scanner -c 'echo from a scanner >/srv/drop/scan.txt'
    stored /srv/drop/scan.txt
    x test -e /srv/drop/done/scan.txt
    id=$(x python3 -c 'import json; print(json.load(open("/srv/drop/scan.txt.upspool.json"))["file_id"])')
    x journalctl -u upspool --no-pager -o json "UPSPOOL_FILE_ID=$id" | says '"UPSPOOL_EVENT":"stored"'
    x upspool list | says "$id"
    x su upspool -s /bin/sh -c 'upspool status' | says "watched by events"
    x su upspool -s /bin/sh -c 'upspool why /srv/drop/scan.txt' | says "stored as $id"
    fails x su nobody -s /bin/sh -c 'upspool list'
}

test_reload_with_a_wrong_file_changes_nothing_and_a_right_one_is_in_force() {
    local pid
    boot
    configure
    x systemctl start upspool
    pid=$(show MainPID)
    x bash -c 'cp -p /etc/upspool/upspool.toml /root/right.toml && echo "hiden = true" >>/etc/upspool/upspool.toml'
    fails x systemctl reload upspool
    x systemctl is-active --quiet upspool
    log | says 'did you mean "hidden"?'
    x bash -c 'cp -p /root/right.toml /etc/upspool/upspool.toml && install -d -o upspool -g upspool /srv/other
printf "[[folder]]\npath = \"/srv/other\"\npurpose = \"user_data\"\n" >>/etc/upspool/upspool.toml'
    x systemctl reload upspool
    x bash -c 'echo other >/srv/other/other.txt'
    stored /srv/other/other.txt
    equal "$(show MainPID)" "$pid"
}

test_reload_is_seen_by_systemd_until_the_new_configuration_is_in_force() {
    boot
    configure
    x systemctl start upspool
    under_way
    # RELOADING=1, for as long as the slow Parts are waited for; READY=1 ends it.
    x systemctl reload upspool
    within 5 'test "$(systemctl show -p ActiveState --value upspool)" = reloading'
    show StatusText | says "a new configuration"
    within 40 'test "$(systemctl show -p ActiveState --value upspool)" = active'
    stored /srv/drop/large.bin
    once_and_whole
    equal "$(show NRestarts)" 0
}

test_status_is_one_line_for_systemd_and_for_people() {
    local hold='test "$(systemctl show -p StatusText --value upspool)" = "$(upspool status | sed -n "1s/^upspool [^:]*: //p")"'
    boot
    configure
    x systemctl start upspool
    within 10 "$hold"
    show StatusText | says "0 files under way, 0 settling"
    x bash -c 'echo sk-wrong >/etc/upspool/openai-api-key'
    within 30 'journalctl -u upspool --no-pager -o cat UPSPOOL_EVENT=key-read | grep .'
    drop held.txt 100
    within 30 'systemctl show -p StatusText --value upspool | grep -F "ON HOLD"'
    within 10 "$hold"
    show StatusText | says "key-rejected"
}

test_kill_and_stop_and_start_send_nothing_again() {
    local pid before
    boot
    configure
    x systemctl start upspool
    drop one.txt 100
    stored /srv/drop/one.txt
    before=$(asked 'len(all)')
    pid=$(show MainPID)
    x kill -9 "$pid"
    within 20 "systemctl is-active upspool && test \$(systemctl show -p MainPID --value upspool) != $pid"
    x systemctl stop upspool
    equal "$(show Result)" success
    x systemctl start upspool
    stored
    equal "$(asked 'len(all)')" "$before" "requests"
}

test_upgrade_restarts_it_and_sends_nothing_again() {
    local before pid
    boot
    configure
    x systemctl enable --now --quiet upspool
    drop one.txt 100
    stored /srv/drop/one.txt
    before=$(asked 'len(all)')
    pid=$(show MainPID)
    "$rig" install "$deb" 2>&1 | sed 's/^/    /'
    within 20 "systemctl is-active upspool && test \$(systemctl show -p MainPID --value upspool) != $pid"
    stored
    equal "$(asked 'len(all)')" "$before" "requests"
    # The operator's file is as it was.
    x grep -q 8099 /etc/upspool/upspool.toml
}

test_remove_keeps_the_ledger_and_purge_takes_it_away() {
    boot
    configure
    x systemctl enable --now --quiet upspool
    drop one.txt 100
    stored /srv/drop/one.txt
    x dpkg -r upspool >/dev/null
    fails x systemctl is-active --quiet upspool
    x test -e /var/lib/upspool/upspool.db
    "$rig" install "$deb" 2>&1 | sed 's/^/    /'
    x upspool list --state-dir /var/lib/upspool | says file-
    x dpkg -P upspool >/dev/null
    fails x test -e /var/lib/upspool
    fails x test -e /etc/upspool
    fails x systemctl cat upspool
}

test_strict_umask_of_whoever_installs_and_configures() {
    boot
    # As in a shell of an administrator whose profile says so.
    x bash -c 'umask 077; dpkg -P upspool; dpkg -i /root/debs/*.deb' >/dev/null 2>&1
    equal "$(x stat -c %a /usr/bin/upspool /usr/lib/sysusers.d/upspool.conf | tr '\n' ' ')" "755 644 "
    configure
    x systemctl start upspool
    drop one.txt 100
    stored /srv/drop/one.txt
    equal "$(x stat -c '%U:%G %a' /var/lib/upspool /var/lib/upspool/upspool.db | tr '\n' ' ')" "upspool:upspool 750 upspool:upspool 640 "
    # The group may look, whatever the umask of who made the store.
    x usermod -aG upspool scanner
    x su scanner -c 'umask 077; upspool list' | says one.txt
    x su upspool -s /bin/sh -c 'umask 0777; upspool pause' >/dev/null
    x upspool status | says paused
    # An editor that makes the file anew gives it to root alone: the reload says so, and what was in force stays.
    x bash -c 'umask 077; cp /etc/upspool/upspool.toml /etc/upspool/new && mv /etc/upspool/new /etc/upspool/upspool.toml'
    fails x systemctl reload upspool
    x systemctl is-active --quiet upspool
    log | says "/etc/upspool/upspool.toml: cannot be read: Permission denied"
}

test_user_unit() {
    local user='runuser -u scanner -- env XDG_RUNTIME_DIR=/run/user/$(id -u scanner)'
    boot
    # As lingering does, where logind can be asked for it.
    x bash -c 'systemctl start user@$(id -u scanner).service'
    within 20 'test -S /run/user/$(id -u scanner)/systemd/private'
    x su scanner -c 'umask 077; mkdir -p ~/.config/upspool ~/drop; cat >~/.config/upspool/key' <<<"$key"
    x su scanner -c 'cat >~/.config/upspool/upspool.toml' <<'TOML'
[api]
base_url = "http://192.0.2.2:8099/v1"
plain_http = true
key_file = "/home/scanner/.config/upspool/key"
[[folder]]
path = "/home/scanner/drop"
purpose = "user_data"
after_upload = { move = "done" }
TOML
    x bash -c "$user systemctl --user enable --now --quiet upspool"
    x su scanner -c 'echo mine >~/drop/mine.txt && upspool wait --timeout 60s ~/drop/mine.txt' | says file-
    x test -e /home/scanner/drop/done/mine.txt
    x bash -c "$user systemctl --user reload upspool"
    x bash -c "$user systemctl --user show -p StatusText --value upspool" | says "settling"
    x bash -c "$user systemctl --user stop upspool"
    equal "$(x bash -c "$user systemctl --user show -p Result --value upspool")" success
}
