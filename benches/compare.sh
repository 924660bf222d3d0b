#!/usr/bin/env bash
# upspool beside what a user would use instead, against one emulator that keeps nothing, in one run: one table of ratios.
#
#   benches/compare.sh [--quick] [--rounds N] [--only WORK,…] [--serve-with COMMAND] [--run-with COMMAND] [--listen ADDRESS]
#
# It builds upspool, the emulator and a small program with the crate async-openai, makes a virtual environment with OpenAI's
# own SDK, and needs curl and python3, and haproxy for «tls». BENCH_DIR is a scratch directory (6 GiB; what is sent is read once before, so that it is in the page cache).
# `--serve-with "ip netns exec a" --run-with "ip netns exec b" --listen 192.0.2.1:0` sends over a link between two namespaces.
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}" PYTHONDONTWRITEBYTECODE=1
cargo build --locked --release --quiet --workspace --bins
cargo build --locked --release --quiet --manifest-path benches/peer/Cargo.toml
venv=$CARGO_TARGET_DIR/openai-sdk-env
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --requirement tests/openai-sdk/requirements.txt

# What the environment says otherwise must not reach any of them.
for name in $(compgen -e | grep -E '^(OPENAI_|UPSPOOL_|HTTPS?_PROXY$|ALL_PROXY$|https?_proxy$|all_proxy$)' || true); do
    unset "$name"
done
exec python3 benches/compare.py "$CARGO_TARGET_DIR/release" "$venv/bin/python" "$@"
