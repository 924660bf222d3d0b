#!/usr/bin/env bash
# Builds target/debian/upspool_VERSION_ARCH.deb. Needs cargo-deb (`cargo install cargo-deb`), dpkg-dev, and what a build needs.
set -Eeuo pipefail
cd "$(dirname "$0")/.."

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
cargo build --locked --release --workspace --bins
program=$CARGO_TARGET_DIR/release/upspool
stage=$CARGO_TARGET_DIR/package

rm -rf "$stage"
mkdir -p "$stage/man" "$stage/completions" "$stage/units"
# Alone: what else lies in systemd/ has its own place in the package.
cp systemd/upspool.service "$stage/units/"
# cargo-deb has the package run it by the name that it has here.
cp systemd/upspool.sysusers.conf "$stage/upspool.conf"
# From the same source as --help.
"$program" man --dir "$stage/man"
gzip -9n "$stage"/man/man?/*
"$program" completions bash >"$stage/completions/upspool"
"$program" completions zsh >"$stage/completions/_upspool"
"$program" completions fish >"$stage/completions/upspool.fish"
# Every key with its default, and no folder: nothing is watched before somebody says what.
sed '/^\[\[folder\]\]$/,$ { /^[^#]/ s/^/# / }' config/upspool.toml >"$stage/upspool.toml"
python3 packaging/licenses.py | gzip -9n >"$stage/THIRD-PARTY.gz"
gzip -9nc CHANGELOG.md >"$stage/changelog.gz"
# The package's own changes are the program's.
version=$("$program" --version | cut -d' ' -f2)
maintainer=$(sed -n 's/^maintainer = "\(.*\)"/\1/p' Cargo.toml)
cat >"$stage/changelog.Debian" <<CHANGES
upspool ($version-1) unstable; urgency=medium

  * See /usr/share/doc/upspool/changelog.gz.

 -- $maintainer  $(date -R -d "@${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}")
CHANGES

cargo deb --no-build --no-strip --locked
