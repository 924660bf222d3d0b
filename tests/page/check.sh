#!/usr/bin/env bash
# The page in a real browser, in each of its states: what it shows, and that hostile names stay text. Pictures go to a
# directory, whose name is the last line. `tests/page/check.sh busy narrow` does those of such names.
#
# Wants chromium and promtool (Debian's packages chromium and prometheus), which it installs as root where they are missing.
set -Eeuo pipefail
cd "$(dirname "$0")/../.."

missing=()
command -v chromium >/dev/null || missing+=(chromium fonts-dejavu-core)
command -v promtool >/dev/null || missing+=(prometheus)
if [ ${#missing[@]} -gt 0 ]; then
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}"
fi
cargo build --quiet --bin upspool
exec python3 tests/page/check.py "$@"
