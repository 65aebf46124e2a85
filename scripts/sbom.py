"""Write the bill of materials, build/sbom.cdx.json, in CycloneDX 1.6: `make sbom`.

What the lock pins, whoever's machine this is: name, version, the hashes of every file that may be installed, and the
licence as far as the package's own metadata say it (of packages that this machine does not install, they do not). The
same lock gives the same file: it holds no time, and its serial number is made from its content.
"""

import argparse
import json
import re
import sys
import uuid
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import thumbwise
from scripts.locked import ROOT, Package, plain_name, read_locked

TARGET = ROOT / "build" / "sbom.cdx.json"
SPEC = "1.6"
NAMESPACE = uuid.UUID("6f0b8f5e-6f0a-5d0e-9a53-2f1c1c9d7a11")
LONGEST_LICENCE_NAME = 80
"""A longer one is the licence's text, which some packages put into its field."""

Metadata = Callable[[str], Any]


def main() -> int:
    """Write the file and name it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=TARGET)
    target: Path = parser.parse_args().to
    found = sbom(read_locked())
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    licensed = sum("licenses" in one for one in found["components"])
    print(f"sbom: {target}: {len(found['components'])} packages, the licence known of {licensed}")
    return 0


def sbom(packages: Sequence[Package], read: Metadata = metadata.metadata) -> dict[str, Any]:
    """Return the bill of `packages`. `read`: the metadata of an installed package; raises PackageNotFoundError."""
    found = {package: _metadata(package, read) for package in packages}
    by_name: dict[str, list[Package]] = {}
    for package in packages:
        by_name.setdefault(package.name, []).append(package)
    components = [_component(package, told) for package, told in found.items()]
    ours = {
        "type": "application", "bom-ref": "thumbwise", "name": "thumbwise", "version": thumbwise.__version__,
        "licenses": [{"license": {"id": "Apache-2.0"}}],
    }  # fmt: skip
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, json.dumps([ours, components], sort_keys=True))}",
        "version": 1,
        "metadata": {"component": ours, "lifecycles": [{"phase": "pre-build"}]},
        "components": components,
        "dependencies": [
            {"ref": "thumbwise", "dependsOn": [_ref(package) for package in packages]},
            *({"ref": _ref(package), "dependsOn": _needs(told, by_name)} for package, told in found.items()),
        ],
    }


def _component(package: Package, told: Any) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": _ref(package),
        "name": package.name,
        "version": package.version,
        "purl": _ref(package),
        "scope": "optional" if package.marker else "required",
    }
    if package.sha256:
        component["hashes"] = [{"alg": "SHA-256", "content": one} for one in package.sha256]
    licence = _licence(told) if told is not None else None
    if licence:
        component["licenses"] = [licence]
    if package.marker:
        component["properties"] = [{"name": "thumbwise:marker", "value": package.marker}]
    return component


def _ref(package: Package) -> str:
    return f"pkg:pypi/{package.name}@{package.version.replace('+', '%2B')}"


def _licence(told: Any) -> dict[str, Any] | None:
    """Return what a package's metadata say of its licence: an expression, a classifier, or a short name."""
    if expression := told.get("License-Expression"):
        return {"expression": expression}
    classified = [
        value.rpartition(" :: ")[2]
        for value in told.get_all("Classifier") or ()
        if value.startswith("License :: ") and value != "License :: OSI Approved"
    ]
    named = " or ".join(classified) or (told.get("License") or "").strip()
    if not named or named.upper() == "UNKNOWN" or len(named) > LONGEST_LICENCE_NAME or "\n" in named:
        return None
    return {"license": {"name": named}}


def _needs(told: Any, by_name: dict[str, list[Package]]) -> list[str]:
    """Return which of the pinned packages this one asks for by itself (extras left out), whatever the machine."""
    if told is None:
        return []
    wanted = set()
    for line in told.get_all("Requires-Dist") or ():
        name = re.match(r"[A-Za-z0-9._-]+", line)
        if name is not None and "extra ==" not in line.replace("extra==", "extra =="):
            wanted.add(plain_name(name[0]))
    return [_ref(package) for name in sorted(wanted) for package in by_name.get(name, ())]


def _metadata(package: Package, read: Metadata) -> Any:
    """Return an installed package's metadata; None where it is not installed, or in another version."""
    try:
        told = read(package.name)
    except metadata.PackageNotFoundError:
        return None
    return told if str(told["Version"]).partition("+")[0] == package.version else None


if __name__ == "__main__":
    sys.exit(main())
