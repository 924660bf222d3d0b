#!/usr/bin/env bash
# Instructions that one iteration of each pure micro-benchmark takes: a figure that stays the same while other programs run.
#
#   benches/instructions.sh [WORD]     those with WORD in their name
#
# Each is run twice under valgrind, the second time with twice the iterations, so that start and set-up fall out of the
# difference. A virtual machine often has no counters for `perf stat -e instructions:u`; valgrind needs none.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v valgrind >/dev/null || { echo "valgrind is missing: apt-get install valgrind" >&2; exit 1; }
# cargo alone knows under which name it built it.
micro=$(cargo bench --locked --bench micro --no-run --message-format=json-render-diagnostics | python3 -c '
import json, sys
built = [json.loads(line) for line in sys.stdin]
print(next(one["executable"] for one in built if one.get("executable") and one["target"]["name"] == "micro"))')
log=$(mktemp)
trap 'rm -f "$log"' EXIT

instructions() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null --log-file="$log" "$micro" count "$@" &&
        awk '/Collected/ { print $NF }' "$log"
}

printf '| %-22s | %10s | %12s |\n| %s | %s: | %s: |\n' "" iterations instructions ---------------------- --------- -----------
"$micro" count | grep -F -- "${1-}" | while read -r name times; do
    once=$(instructions "$name" "$times")
    twice=$(instructions "$name" $((2 * times)))
    printf '| %-22s | %10d | %12d |\n' "$name" "$times" $(((twice - once) / times))
done
