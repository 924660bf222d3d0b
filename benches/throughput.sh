#!/usr/bin/env bash
# One file of 1 GiB over loopback to one emulator that keeps nothing: upspool without and with the MD5, and OpenAI's own
# Python helper. Three rounds, medians. Time is from the arrival of the create request to the end of the answer to
# complete, as the emulator saw them, so neither settling nor starting an interpreter counts.
#
#   BENCH_BYTES (1073741824), BENCH_ROUNDS (3), BENCH_DIR (a scratch directory; its file system matters little, since the
#   file is read once before and stays in the page cache).
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
bytes=${BENCH_BYTES:-1073741824}
rounds=${BENCH_ROUNDS:-3}
key=sk-bench

cargo build --release --quiet --workspace --bins
venv=$target/openai-sdk-env
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --requirement tests/openai-sdk/requirements.txt

scratch=$(mktemp -d "${BENCH_DIR:-${TMPDIR:-/tmp}}/upspool-bench.XXXXXX")
emulator=
cleanup() {
    if [ -n "$emulator" ]; then
        kill "$emulator" 2>/dev/null || true
        wait "$emulator" 2>/dev/null || true
    fi
    rm -rf "$scratch"
}
trap cleanup EXIT

"$target/release/upspool-emulator" --listen 127.0.0.1:0 --api-key "$key" --discard >"$scratch/address" &
emulator=$!
for _ in $(seq 100); do
    [ -s "$scratch/address" ] && break
    sleep 0.1
done
read -r base <"$scratch/address"

mkdir "$scratch/drop"
file=$scratch/drop/large.jsonl
head -c "$bytes" /dev/urandom >"$file"
cat "$file" >/dev/null

# What the environment says otherwise must not reach either of them.
for name in $(compgen -e | grep -E '^(OPENAI_|UPSPOOL_|HTTPS?_PROXY$|ALL_PROXY$|https?_proxy$|all_proxy$)' || true); do
    unset "$name"
done
export OPENAI_BASE_URL=$base OPENAI_API_KEY=$key

# A folder in the file rather than --watch, which could not say how short to settle.
cat >"$scratch/upspool.toml" <<TOML
[log]
level = "warn"
format = "text"

[[folder]]
path = "$scratch/drop"
purpose = "batch"
settle = "100ms"
TOML

BENCH_TARGET=$target BENCH_SCRATCH=$scratch BENCH_FILE=$file BENCH_ROUNDS=$rounds BENCH_BYTES=$bytes \
    BENCH_PYTHON=$venv/bin/python python3 - <<'PYTHON'
import json
import os
import shutil
import statistics
import subprocess
import sys
import urllib.request

scratch, target = os.environ["BENCH_SCRATCH"], os.environ["BENCH_TARGET"]
total, rounds = int(os.environ["BENCH_BYTES"]), int(os.environ["BENCH_ROUNDS"])
origin = os.environ["OPENAI_BASE_URL"].removesuffix("/v1")


def control(name, method="GET"):
    request = urllib.request.Request(f"{origin}/_emulator/{name}", method=method, data=b"" if method == "POST" else None)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request) as answer:
        return json.load(answer) if method == "GET" else None


def upspool(checksum):
    state = f"{scratch}/state"
    shutil.rmtree(state, ignore_errors=True)  # A ledger that knows the file would send nothing.
    command = [f"{target}/release/upspool", "--config", f"{scratch}/upspool.toml", "--state-dir", state, "run", "--once"]
    return command, {"UPSPOOL__UPLOAD__CHECKSUM": checksum}


def sdk():
    return [os.environ["BENCH_PYTHON"], "benches/sdk_helper.py", os.environ["BENCH_FILE"]], {}


def measure(command, extra):
    control("reset", "POST")
    process = subprocess.Popen(command, env=os.environ | extra, stdout=subprocess.PIPE, text=True)
    said = process.stdout.read()
    # wait4 tells of this process alone, unlike RUSAGE_CHILDREN, which keeps the largest of all.
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{command[0]} ended with {process.returncode}: {said}")
    record = control("requests")
    requests = [request for request in record["requests"] if request["operation"] in ("create", "part", "complete")]
    refused = [request for request in requests if request["status"] != 200]
    if refused:
        sys.exit(f"{command[0]}: {len(refused)} requests were not answered with 200: {refused[0]}")
    create = [request for request in requests if request["operation"] == "create"]
    complete = [request for request in requests if request["operation"] == "complete"]
    sent = sum(request["data_bytes"] for request in requests if request["operation"] == "part")
    if len(create) != 1 or len(complete) != 1 or sent != total:
        sys.exit(f"{command[0]}: {len(create)} create, {len(complete)} complete, {sent} bytes of {total}")
    return {
        "seconds": (complete[0]["finished_ms"] - create[0]["started_ms"]) / 1000,
        "cpu": usage.ru_utime + usage.ru_stime,
        "rss": usage.ru_maxrss / 1024,  # Linux counts in KiB.
        "parts": len(requests) - 2,
        "at_once": record["most_parts_in_flight"],
    }


CONTENDERS = {
    "upspool, checksum = false": lambda: upspool("false"),
    "upspool, checksum = true": lambda: upspool("true"),
    "openai-python, upload_file_chunked": sdk,
}

# Round by round rather than one after the other, so that a busy minute of the machine hits all alike.
results = {name: [] for name in CONTENDERS}
for number in range(1, rounds + 1):
    for name, make in CONTENDERS.items():
        result = measure(*make())
        results[name].append(result)
        print(f"round {number}: {name}: {result['seconds']:.2f} s", file=sys.stderr)

median = {
    name: {field: statistics.median(one[field] for one in runs) for field in runs[0]} for name, runs in results.items()
}
theirs = median["openai-python, upload_file_chunked"]
version = subprocess.run(
    [os.environ["BENCH_PYTHON"], "-c", "import openai; print(openai.__version__)"], capture_output=True, text=True
).stdout.strip()
print(f"\nOne file of {total} bytes, loopback, http, {os.cpu_count()} cores, openai-python {version}; medians of {rounds}:\n")
print(f"{'':36}{'seconds':>9}{'MB/s':>9}{'CPU s':>8}{'peak MB':>9}{'Parts':>7}{'at once':>9}{'speed':>8}{'memory':>8}")
for name, one in median.items():
    print(
        f"{name:36}{one['seconds']:9.2f}{total / one['seconds'] / 1e6:9.0f}{one['cpu']:8.2f}{one['rss']:9.0f}"
        f"{one['parts']:7.0f}{one['at_once']:9.0f}"
        f"{theirs['seconds'] / one['seconds']:7.1f}x{one['rss'] / theirs['rss']:7.2f}x"
    )
print("\nspeed and memory are relative to openai-python; CPU s is of the whole process, settling and start included.")
PYTHON
