"""A stand-in for `python:3-slim`, made of the Python that runs the tests: no registry has to be asked for one.

It has that interpreter with its standard library, the shared libraries that they need, pip, and a busybox for all else. Its
folder `/wheels` is for `pip install --no-index --find-links /wheels`. The same content has the same tag.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from importlib.metadata import distribution
from pathlib import Path
from zipfile import ZipFile

from tests.support.images import Image, assembled, layer, static_busybox
from tests.support.wheels import files_of

VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
_LIBRARY = f"usr/local/lib/{VERSION}"
_LEFT_OUT = re.compile(
    r"(test|idlelib|tkinter|turtledemo|lib2to3|ensurepip|site-packages|dist-packages|config-3.*|pydoc_data)/|.*__pycache__/"
)
_APPLETS = "cat chmod chown cp env false find grep id install kill ls mkdir mount mv ps rm sh sleep test touch true wget"
Files = dict[str, tuple[int, bytes]]


def python_image(wheels: Sequence[Path]) -> Image:
    """With these wheels in `/wheels`."""
    busybox = static_busybox()
    if busybox is None:
        raise FileNotFoundError("no static busybox on this machine")
    folders = {
        "tmp": 0o1777,
        "root": 0o700,
        "usr/bin": 0o755,
        "usr/lib": 0o755,
        "usr/lib64": 0o755,
        "usr/sbin": 0o755,
    }
    folders |= {
        "usr/local/bin": 0o755,
        "etc": 0o755,
        "run": 0o755,
        "var/lib": 0o755,
        "proc": 0o755,
        "sys": 0o755,
    }
    links = {name: f"usr/{name}" for name in ("bin", "sbin", "lib", "lib64")}
    links |= {f"usr/bin/{applet}": "busybox" for applet in _APPLETS.split()}
    links |= {f"usr/local/bin/{name}": VERSION for name in ("python", "python3")}
    rest: Files = {
        "usr/bin/busybox": (0o755, busybox.read_bytes()),
        "etc/passwd": (0o644, b"root:x:0:0:root:/root:/bin/sh\n"),
        "etc/group": (0o644, b"root:x:0:\n"),
    }
    python = _python()
    libraries = _libraries(wheels)
    rest |= {f"wheels/{path.name}": (0o644, path.read_bytes()) for path in sorted(wheels)}
    made = (layer(rest, links, folders), layer(python), layer(libraries))
    where = ":".join(sorted({f"/{os.path.dirname(name)}" for name in libraries}, key=_system_last))
    environ = ["PATH=/usr/local/bin:/usr/bin:/bin", f"LD_LIBRARY_PATH={where}"]
    config = {"Env": environ, "Cmd": ["python3"]}
    return assembled("python", made, config, steps=("busybox", VERSION, "libraries"))


def _system_last(folder: str) -> tuple[bool, str]:
    """Another libpython may be put among the system's libraries later."""
    return not folder.startswith("/usr/local/"), folder


def _python() -> Files:
    """The interpreter below /usr/local, as the official image has it, and pip in its standard library: there every layout of
    Python finds it, Debian's too."""
    files: Files = {f"usr/local/bin/{VERSION}": (0o755, _interpreter().read_bytes())}
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.rglob("*")):
        name = path.relative_to(library).as_posix()
        if path.is_file() and not _LEFT_OUT.match(name):
            files[f"{_LIBRARY}/{name}"] = (0o644, path.read_bytes())
    pip = distribution("pip")
    for file in files_of(pip):
        if file.parts[0] == "pip":
            files[f"{_LIBRARY}/{file}"] = (0o644, Path(str(pip.locate_file(file))).read_bytes())
    return dict(sorted(files.items()))


def _interpreter() -> Path:
    return Path(getattr(sys, "_base_executable", sys.executable)).resolve()


def _libraries(wheels: Iterable[Path]) -> Files:
    """What the interpreter, its compiled modules and those in the wheels ask the loader for. System libraries have their
    places, the others, such as libpython of an interpreter in somebody's home, are in /usr/local/lib."""
    packages = sysconfig.get_path("platlib")
    modules = [
        *(
            path
            for path in Path(sysconfig.get_path("stdlib")).glob("lib-dynload/*.so")
            if "_tkinter" not in path.name
        ),
        *(Path(packages, name) for wheel in wheels for name in ZipFile(wheel).namelist() if ".so" in name),
    ]
    told = subprocess.run(
        ["ldd", *map(str, [_interpreter(), *modules])], capture_output=True, encoding="utf-8", timeout=60
    ).stdout
    files: Files = {}
    for name in sorted(set(re.findall(r"^\s+(?:\S+ => )?(/\S+) \(0x", told, re.MULTILINE))):
        if not name.startswith(packages):
            system = re.sub(r"^/(usr/)?(lib|lib64)/", r"usr/\2/", name)
            placed = f"usr/local/lib/{os.path.basename(name)}" if system == name else system
            files[placed] = (0o755, Path(name).read_bytes())
    return files
