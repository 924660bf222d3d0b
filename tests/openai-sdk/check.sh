#!/bin/sh
# Drives the emulator with OpenAI's own Python SDK and holds its answers against OpenAI's own OpenAPI document.
# Needs python3 with venv, and PyPI once; the virtual environment is kept under target/.
set -eu
cd "$(dirname "$0")/../.."
env="${CARGO_TARGET_DIR:-target}/openai-sdk-env"
[ -x "$env/bin/python" ] || python3 -m venv "$env"
"$env/bin/pip" install --quiet --disable-pip-version-check --requirement tests/openai-sdk/requirements.txt
cargo build --quiet --locked --workspace
exec "$env/bin/python" tests/openai-sdk/check.py "${CARGO_TARGET_DIR:-target}/debug/upspool-emulator"
