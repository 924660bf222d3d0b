#!/usr/bin/env bash
# How cost grows: with the size of a file, the number of files, the rows in the ledger, the Parts at once, and, of a service
# that has nothing to do, the directories that it watches. Raw figures and plots go to docs/growth/.
#
#   benches/growth.sh [--quick] [--rounds N] [--only size,files,ledger,parts,directories] [--plot]
#
# The emulator of the API, which keeps no content, runs on the same machine. All but the last is measured in BENCH_DIR (3 GB
# for a million rows; /dev/shm leaves the disk out), the last in BENCH_DISK (/var/tmp): only a disk counts what is written.
# Needs python3, and installs matplotlib for the plots.
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}" PYTHONDONTWRITEBYTECODE=1
cargo build --locked --release --quiet --workspace --bins
venv=$CARGO_TARGET_DIR/plot-env
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check 'matplotlib>=3.10,<4'

# What the environment says otherwise must not reach the service.
for name in $(compgen -e | grep -E '^(OPENAI_|UPSPOOL_|HTTPS?_PROXY$|ALL_PROXY$|https?_proxy$|all_proxy$)' || true); do
    unset "$name"
done
exec "$venv/bin/python" benches/growth.py "$CARGO_TARGET_DIR/release" "$@"
