# shellcheck shell=bash
# Who may give which order: root and members of the group all of them, nobody else any.

# as USER CODE WORDS COMMAND…: the command ends with this code, and says these words on one of its outputs.
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

# A machine with a member of the group, where the service has nothing to do.
with_operator() {
    boot
    configure
    # Neither root's nor the group's: the service's alone.
    x bash -c 'chown upspool:upspool /etc/upspool/openai-api-key && chmod 400 /etc/upspool/openai-api-key'
    x systemctl start upspool
    x bash -c 'useradd -m op && usermod -aG upspool op'
}

test_every_command_as_root_as_a_member_of_the_group_and_as_nobody() {
    local user file command code store=/var/lib/upspool
    with_operator
    for user in root op; do
        file=/srv/drop/$user.txt
        as "$user" 0 "all folders: paused" pause
        as "$user" 0 "folder drop: paused" pause --folder drop
        drop "$user.txt" 100
        within 20 "upspool list --state queued | grep -F $file"
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
        as "$user" 0 "files under way" status
        as "$user" 0 "file-" list
        as "$user" 0 "file-" show "$file"
        as "$user" 0 "stored as file-" why "$file"
        as "$user" 0 "file-" export
        as "$user" 0 "copied to" backup "/tmp/backup-of-$user.db"
        as "$user" 0 ".TH" man
        as "$user" 0 "complete" completions bash
    done
    x journalctl -u upspool --no-pager -o json UPSPOOL_EVENT=asked | says "\"UPSPOOL_UID\":\"$(x id -u op)\""
    as root 75 "another upspool (process" rebuild
    as op 1 "Permission denied" rebuild
    as op 78 "openai-api-key" run
    as op 78 "openai-api-key" check
    for command in pause resume "retry 1" "cancel 1" "bump 1" "resolve 1 --again" "prune --older-than 1d" wait list \
        "show 1" "why /srv/drop/op.txt" status export "backup /tmp/backup-of-nobody.db"; do
        # shellcheck disable=SC2086
        as nobody 78 "sudo usermod -aG upspool nobody, and log in again" $command
        # Whatever the state directory, `why` asks the configuration for the folders; `status` has a code of its own.
        case $command in
            why*) code=78 ;;
            status) code=3 ;;
            *) code=1 ;;
        esac
        # shellcheck disable=SC2086
        as nobody $code "sudo usermod -aG upspool nobody, and log in again" $command --state-dir $store
    done
}

test_the_group_cannot_write_the_ledger_and_what_it_asks_waits_for_a_service() {
    local command store=/var/lib/upspool
    with_operator
    equal "$(x stat -c '%U:%G %a' $store)" "upspool:upspool 750"
    equal "$(x stat -c '%U:%G %a' $store/asks)" "upspool:upspool 1770"
    for command in "touch $store/x" "mv $store/asks $store/x" "rm -f $store/upspool.db" ": >>$store/upspool.db" \
        "cat /etc/upspool/openai-api-key"; do
        fails x runuser -u op -- sh -c "$command"
    done
    x systemctl stop upspool
    as op 0 "recorded; taken up when the service starts" pause
    x systemctl start upspool
    within 20 'upspool status | grep -F paused'
    as op 0 "all folders: resumed" resume
    x bash -c "test -z \"\$(ls -A $store/asks)\""
}
