#!/usr/bin/env python3
"""Prints the licences of all that is linked into upspool, with their texts, for the package."""

import json
import pathlib
import subprocess
import sys

TARGET = "x86_64-unknown-linux-gnu"
TEXTS = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE")

# What no crate of the list says of itself.
BESIDES = """\
The Rust standard library: MIT OR Apache-2.0  https://github.com/rust-lang/rust
SQLite (in libsqlite3-sys): public domain  https://sqlite.org/copyright.html"""


def cargo(*arguments: str) -> str:
    return subprocess.run(["cargo", *arguments], check=True, capture_output=True, text=True).stdout


# Neither what only builds nor what only tests is in the program, nor a feature that nothing asks for. `cargo metadata` alone
# does not tell these apart.
tree = cargo("tree", "--locked", "-p", "upspool", "-e", "normal,no-proc-macro", "--target", TARGET, "--prefix", "none", "--format", "{p}")
# What has a path after its version is of this repository.
linked = {tuple(line.split(" ")[:2]) for line in tree.splitlines() if line and "(/" not in line}
packages = json.loads(cargo("metadata", "--locked", "--format-version", "1", "--filter-platform", TARGET))["packages"]
packages = [package for package in packages if package["source"] and (package["name"], "v" + package["version"]) in linked]

texts, without = {}, []
for package in sorted(packages, key=lambda one: (one["name"], one["version"])):
    name = f"{package['name']} {package['version']}"
    if not package["license"] and not package["license_file"]:
        sys.exit(f"{name} names no licence")
    print(f"{name}: {package['license'] or package['license_file']}  {package['repository'] or ''}".rstrip())
    files = [file for file in sorted(pathlib.Path(package["manifest_path"]).parent.iterdir()) if file.is_file()]
    files = [file for file in files if file.name.upper().startswith(TEXTS)]
    for file in files:
        texts.setdefault(file.read_text(errors="replace").strip(), []).append(f"{name} ({file.name})")
    if not files:
        without.append(name)
        if not {"MIT", "Apache-2.0"} & set(package["license"].replace("/", " ").split()):
            sys.exit(f"{name} carries no text of its licence, and this package has none of {package['license']}")
print(BESIDES)
if without:
    print(f"\nThese carry no text; that of MIT is in /usr/share/doc/upspool/copyright, that of Apache-2.0 in /usr/share/common-licenses: {', '.join(without)}")

for text, names in texts.items():
    print(f"\n{'=' * 100}\n{', '.join(names)}\n{'=' * 100}\n\n{text}")

if len(packages) != len(linked):
    sys.exit(f"{len(linked)} crates are linked, and {len(packages)} were found")
