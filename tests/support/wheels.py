"""Wheels for an installation without any index: this checkout's, and what it needs packed again from what is installed here.

A wheel that is installed lost only its scripts, which its entry points bring back. The same content is the same file. Must never ask an index.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackagePath, distribution
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile, ZipInfo

from packaging.requirements import Requirement
from packaging.tags import parse_tag
from packaging.utils import canonicalize_name

from tests.support.required import skip_unless

ROOT = Path(__file__).parents[2]
_OF_THIS_INSTALLATION = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}


def wheels(folder: Path, *extras: str) -> list[Path]:
    """This checkout's wheel first, then those of all that it needs with these extras."""
    own = _built(folder)
    with ZipFile(own) as wheel:
        [metadata] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        (folder / "METADATA").write_bytes(wheel.read(metadata))
    needed = _closure(Distribution.at(folder).requires or (), extras)
    (folder / "METADATA").unlink()
    return [own, *(_packed(distribution(name), folder) for name in sorted(needed))]


def files_of(found: Distribution) -> list[PackagePath]:
    """What the wheel brought to site-packages."""
    return [
        file
        for file in found.files or ()
        if ".." not in file.parts
        and file.suffix != ".pyc"
        and not (_is_metadata(file) and file.name in _OF_THIS_INSTALLATION)
    ]


def _built(folder: Path) -> Path:
    skip_unless(find_spec("hatchling") is not None, "hatchling is not installed (the group `dev`)")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [made] = folder.glob("sandbox_reconciler-*.whl")
    return made


def _closure(requirements: Iterable[str], extras: Iterable[str]) -> set[str]:
    found: set[tuple[str, tuple[str, ...]]] = set()
    waiting = list(_wanted(requirements, extras))
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += _wanted(distribution(each[0]).requires or (), each[1])
    return {name for name, _ in found}


def _wanted(requirements: Iterable[str], extras: Iterable[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for text in requirements:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield canonicalize_name(requirement.name), tuple(sorted(requirement.extras))


def _packed(found: Distribution, folder: Path) -> Path:
    files = files_of(found)
    [metadata] = {file.parts[0] for file in files if _is_metadata(file) and file.name == "METADATA"}
    path = folder / f"{metadata.removesuffix('.dist-info')}-{_tag(found)}.whl"
    with ZipFile(path, "w") as wheel:
        for file in files:
            wheel.writestr(ZipInfo(str(file)), Path(str(file.locate())).read_bytes())
        wheel.writestr(ZipInfo(f"{metadata}/RECORD"), "".join(f"{file},,\n" for file in files))
    return path


def _tag(found: Distribution) -> str:
    """As in the name of its wheel; packed tags such as `py2.py3-none-any` are one line each in the metadata."""
    lines = (found.read_text("WHEEL") or "").splitlines()
    tags = {
        tag for line in lines if line.startswith("Tag: ") for tag in parse_tag(line.removeprefix("Tag: "))
    }
    parts = ({tag.interpreter for tag in tags}, {tag.abi for tag in tags}, {tag.platform for tag in tags})
    return "-".join(".".join(sorted(part)) for part in parts)


def _is_metadata(file: PackagePath) -> bool:
    return file.parts[0].endswith(".dist-info")
