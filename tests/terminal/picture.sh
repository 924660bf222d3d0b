#!/usr/bin/env bash
# docs/status.svg: what `upspool status --follow` shows in a terminal of 100 columns while a service works against the
# emulator, with a hold, a failure and a file that is still written. Wants tmux, python3 and a debug build of both programs.
set -Eeuo pipefail
cd "$(dirname "$0")/../.."

bin=$PWD/target/debug
dir=$(mktemp -d /tmp/upspool-XXXXXX)
pids=()
trap 'tmux -L upspool-picture kill-server 2>/dev/null || true; kill "${pids[@]}" 2>/dev/null || true; rm -rf "$dir"' EXIT

mkdir "$dir/batch" "$dir/reports" "$dir/translations"
echo sk-wrong > "$dir/wrong"
echo sk-right > "$dir/key"
cat > "$dir/script.toml" <<TOML
[[fault]]
operation = "part"
action.slow = { bytes_per_second = 1500000 }
TOML
"$bin/upspool-emulator" --discard --api-key sk-right --script "$dir/script.toml" > "$dir/url" &
pids+=($!)
until [ -s "$dir/url" ]; do sleep 0.1; done
cat > "$dir/upspool.toml" <<TOML
[api]
base_url = "$(head -1 "$dir/url")"
key_file = "$dir/key"
[accounts.eu]
base_url = "$(head -1 "$dir/url")"
key_file = "$dir/wrong"
[upload]
part_size = "8 MiB"
[store]
state_dir = "$dir/state"
[[folder]]
path = "$dir/batch"
purpose = "batch"
preflight = "off"
[[folder]]
path = "$dir/reports"
purpose = "user_data"
[[folder]]
path = "$dir/translations"
purpose = "user_data"
account = "eu"
TOML
# All lies there when it begins, so that small files are not kept waiting by what is being written.
for number in 1 2 3 4; do
    truncate -s "$((number * 97 + 40))M" "$dir/batch/evals-shard-000$number-of-0004.jsonl"
done
for number in $(seq 23); do echo "report $number" > "$dir/reports/report-$number.pdf"; done
: > "$dir/reports/empty.pdf"
echo translation > "$dir/translations/報告書 2026.pdf"
"$bin/upspool" --config "$dir/upspool.toml" run 2> "$dir/log" &
pids+=($!)
exec 7> "$dir/reports/scan of today.pdf"
echo page >&7
until grep -q '"event":"hold"' "$dir/log" && [ "$(grep -c '"event":"stored"' "$dir/log")" -ge 23 ]; do sleep 0.5; done
tmux -L upspool-picture -u -f /dev/null new-session -d -x 100 -y 40 \
    "env LANG=C.UTF-8 TERM=screen-256color '$bin/upspool' --config '$dir/upspool.toml' status --follow"
# So long the rates look back.
sleep 12
tmux -L upspool-picture capture-pane -p -e | python3 tests/terminal/svg.py > docs/status.svg
tmux -L upspool-picture capture-pane -p
