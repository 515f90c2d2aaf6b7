"""List what is in an image: Python, the packages of its environment, and Debian's packages.

    python deploy/images/sbom.py NAME ENVIRONMENT

Run in the build of the image (Dockerfile); writes ENVIRONMENT/sbom.cdx.json, a CycloneDX 1.6 bill
of materials. It has no time and no random number in it: the same packages give the same file.
"""

import importlib.metadata
import platform
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

FILE = "sbom.cdx.json"


def list_python(environment: Path) -> Iterator[Component]:
    """Every distribution that is installed in a virtual environment."""
    (site,) = environment.glob("lib/python*/site-packages")
    for found in importlib.metadata.distributions(path=[str(site)]):
        name = re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower()
        yield _component(
            PackageURL("pypi", None, name, found.version),
            _licence(found.metadata.get("License-Expression"), found.metadata.get("License")),
        )


def list_debian() -> Iterator[Component]:
    """Every package that dpkg has installed, with its architecture."""
    form = "${Package}\t${Version}\t${Architecture}\t${db:Status-Status}\n"
    command = ["dpkg-query", "--show", f"--showformat={form}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        name, version, architecture, status = line.split("\t")
        if status == "installed":
            yield _component(PackageURL("deb", "debian", name, version, {"arch": architecture}))


def name_python() -> Component:
    """The interpreter, which the base image builds by itself."""
    version = platform.python_version()
    return _component(PackageURL("generic", None, "python", version))


def _licence(
    expression: str | None, name: str | None
) -> LicenseExpression | DisjunctiveLicense | None:
    """The expression where a package gives one; else its own short words; else nothing."""
    if expression:
        return LicenseExpression(expression)
    short = (name or "").strip()
    return DisjunctiveLicense(name=short) if short and "\n" not in short else None


def _component(
    address: PackageURL, licence: LicenseExpression | DisjunctiveLicense | None = None
) -> Component:
    return Component(
        name=address.name,
        version=address.version,
        type=ComponentType.LIBRARY,
        purl=address,
        bom_ref=address.to_string(),
        licenses=[licence] if licence else [],
    )


def main(name: str, environment: Path) -> None:
    """Write the list, and say how long it is."""
    image = Component(name=name, type=ComponentType.CONTAINER, bom_ref=name)
    components = sorted(
        {name_python(), *list_python(environment), *list_debian()}, key=lambda c: str(c.purl)
    )
    bom = Bom(components=components, metadata=BomMetaData(component=image))
    bom.metadata.timestamp = None
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, " ".join(str(c.purl) for c in components))
    (environment / FILE).write_text(JsonV1Dot6(bom).output_as_string(indent=1), encoding="utf-8")
    print(f"{name}: {len(components)} packages listed in {environment / FILE}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
