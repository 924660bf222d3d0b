#!/usr/bin/env bash
# A folder of 100 000 small files in 10 000 directories: how long until each has its File ID, what that takes of memory
# and watches, what a rescan costs beside find and rclone, and what the service does when there is nothing to do. The
# emulator, which keeps no content, runs on the same machine and takes its share of it.
#
#   BENCH_FILES (100000), BENCH_DIRECTORIES (10000), BENCH_IDLE (60, seconds), BENCH_DIR (a scratch directory on the
#   file system to be measured).
#
# Needs python3 and rclone (Debian's package).
set -euo pipefail
cd "$(dirname "$0")/.."

command -v rclone >/dev/null || { echo "rclone is missing: apt-get install rclone" >&2; exit 1; }
cargo build --release --quiet --locked --workspace --bins
exec python3 benches/folder.py "${CARGO_TARGET_DIR:-target}/release"
