#!/usr/bin/env python3
"""Prints the licences of all crates that are linked into upspool, with their texts, for the package."""

import json
import pathlib
import subprocess
import sys

metadata = json.loads(
    subprocess.run(
        ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu"],
        check=True,
        capture_output=True,
    ).stdout
)
packages = {package["id"]: package for package in metadata["packages"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
root = next(package["id"] for package in metadata["packages"] if package["name"] == "upspool")

linked, open_ids = set(), [root]
while open_ids:
    node = nodes[open_ids.pop()]
    for dependency in node["deps"]:
        # Neither what only builds nor what only tests is in the program.
        if any(kind["kind"] is None for kind in dependency["dep_kinds"]) and dependency["pkg"] not in linked:
            linked.add(dependency["pkg"])
            open_ids.append(dependency["pkg"])

texts = {}
for package in sorted((packages[one] for one in linked), key=lambda one: one["name"]):
    name = f"{package['name']} {package['version']}"
    if not package["license"] and not package["license_file"]:
        sys.exit(f"{name} names no licence")
    print(f"{name}: {package['license'] or package['license_file']}  {package['repository'] or ''}")
    directory = pathlib.Path(package["manifest_path"]).parent
    for file in sorted(directory.iterdir()):
        if file.is_file() and file.name.upper().startswith(("LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE")):
            texts.setdefault(file.read_text(errors="replace").strip(), []).append(f"{name} ({file.name})")

for text, names in texts.items():
    print(f"\n{'=' * 100}\n{', '.join(names)}\n{'=' * 100}\n\n{text}")
