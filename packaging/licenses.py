#!/usr/bin/env python3
"""Prints the licences of the crates that the programs for a target are made of.

usage: packaging/licenses.py TARGET
"""

import json
import pathlib
import subprocess
import sys

NAMES = ("copying", "licence", "license", "notice", "unlicense")


def crates(target):
    """The packages that the programs are made of, ours left out."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    root = pathlib.Path(__file__).parent.parent
    metadata = json.loads(subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    waiting = [identity for identity, package in packages.items() if package["name"] == "kubeagents"]
    found = set(waiting)
    while waiting:
        for dependency in nodes[waiting.pop()]["deps"]:
            is_linked = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            if is_linked and dependency["pkg"] not in found:
                found.add(dependency["pkg"])
                waiting.append(dependency["pkg"])
    others = [packages[identity] for identity in found if packages[identity]["source"]]
    return sorted(others, key=lambda package: (package["name"], package["version"]))


def texts(package):
    """The texts that a package has of its licences."""
    folder = pathlib.Path(package["manifest_path"]).parent
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.name.lower().startswith(NAMES))
    return [file.read_text(encoding="utf-8", errors="replace").strip() for file in files]


def main():
    print("kubeagents is made of these packages, besides its own code:\n")
    owners = {}
    for package in crates(sys.argv[1]):
        name = f"{package['name']} {package['version']}"
        print(f"{name}: {package['license'] or 'see its text'}")
        for text in texts(package):
            owners.setdefault(text, []).append(name)
    for text, names in owners.items():
        print(f"\n{'-' * 80}\n{', '.join(names)}\n\n{text}")


if len(sys.argv) != 2:
    sys.exit(__doc__.strip())
main()
