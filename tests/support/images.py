"""Container images made from nothing but a static busybox, as the archive that every engine can load.

An image is a pure function of its content: the same content has the same id and the same tag on every machine and in
every worker of a test run, so that loading it twice at once does no harm. Must never ask an engine or a registry.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import platform
import shutil
import struct
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = (
    "localhost/reconciler-test"  # of every image made here; Podman knows a loaded image by no shorter name
)
HTTP_PORT = 8080

_APPLETS = """
ash cat chmod chown cp date dd df echo env false find free grep head hostname httpd id ifconfig ip kill ln ls mkdir
mount mv nc nproc ping printenv ps pwd rm sed sh sleep stat sync tail tee test touch tr true uname wc wget whoami yes
"""

# One program for all images; the image's command says which behaviour is meant. A shell as process 1 has to trap
# SIGTERM, or the kernel drops it; `wait` is what a trapped signal interrupts.
_ENTRYPOINT = """#!/bin/sh
serve() {
  httpd -f -p 8080 -h /www &
  wait $!
}
case "$1" in
serve)
  trap 'exit 0' TERM INT
  echo "serving on 8080"
  serve
  ;;
slow)
  trap 'exit 0' TERM INT
  echo "ready in ${SLOW_SECONDS:-2} seconds"
  sleep "${SLOW_SECONDS:-2}" &
  wait $!
  serve
  ;;
crash)
  echo "crash: reading its settings" >&2
  echo "crash: no settings found" >&2
  echo "crash: giving up" >&2
  exit 3
  ;;
deaf)
  trap '' TERM
  echo "deaf to SIGTERM"
  exec httpd -f -p 8080 -h /www
  ;;
*)
  exec "$@"
  ;;
esac
"""


def static_busybox() -> Path | None:
    """A busybox that needs no libraries; None when this machine has none."""
    found = [Path("/bin/busybox"), Path("/usr/bin/busybox"), Path(shutil.which("busybox") or "/nowhere")]
    return next((path for path in found if path.is_file() and is_static(path.read_bytes())), None)


def is_static(program: bytes) -> bool:
    """Whether an ELF program asks for no dynamic loader: no PT_INTERP among its program headers."""
    if program[:4] != b"\x7fELF":
        return False
    wide, order = program[4] == 2, "<" if program[5] == 1 else ">"
    offset = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", program, 32 if wide else 28)[0]
    size, count = struct.unpack_from(f"{order}HH", program, 54 if wide else 42)
    kinds = (struct.unpack_from(f"{order}I", program, offset + i * size)[0] for i in range(count))
    return all(kind != 3 for kind in kinds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """`id` is the digest of the configuration; `reference` a tag made of it; `layers` uncompressed tar files."""

    reference: str
    id: str
    config: bytes
    layers: tuple[bytes, ...] = field(repr=False)

    def archive(self, *tags: str) -> bytes:
        """What `docker load` and `podman load` read. `tags` instead of the image's own one: loading it moves them."""
        names = [f"{self.id.removeprefix('sha256:')}.json", *(f"{_sha(each)}.tar" for each in self.layers)]
        manifest = [{"Config": names[0], "RepoTags": list(tags or (self.reference,)), "Layers": names[1:]}]
        contents = [json.dumps(manifest).encode(), self.config, *self.layers]
        return layer(
            {name: (0o644, text) for name, text in zip(["manifest.json", *names], contents, strict=True)}
        )


def image(
    command: Sequence[str] = ("serve",), *, marker: str = "1", name: str = "agent", **config: Any
) -> Image:
    """An image with a shell, and an HTTP server on 8080 whose `GET /v1/sandbox` answers with `marker` as version.

    `command` is `serve`, `slow` (serves after SLOW_SECONDS seconds), `crash` (three lines to stderr, exit 3), `deaf`
    (serves, ignores SIGTERM), or any program. `config` overrides keys of the image's configuration (`Env`, `User`,
    `Volumes`, `Labels`, `Healthcheck`, ...).
    """
    return assembled(
        name,
        (_base(), _content(marker)),
        {
            "Entrypoint": ["/entrypoint"],
            "Cmd": list(command),
            "Env": ["PATH=/bin", "HOME=/home/gem", f"IMAGE_MARKER={marker}"],
            "ExposedPorts": {f"{HTTP_PORT}/tcp": {}},
            "Labels": {"org.example.image": name, "org.example.marker": marker},
            "WorkingDir": "/home/gem",
            **config,
        },
        steps=("busybox", "content"),
    )


def assembled(
    name: str, layers: tuple[bytes, ...], config: Mapping[str, Any], *, steps: Sequence[str]
) -> Image:
    """An image of these layers, made by `layer`, each with a word for its history."""
    made = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_sha(each)}" for each in layers]},
        "history": [{"created": "2026-01-01T00:00:00Z", "created_by": step} for step in steps],
    }
    text = json.dumps(made, sort_keys=True).encode()
    digest = _sha(text)
    return Image(
        reference=f"{REPOSITORY}/{name}:{digest[:16]}", id=f"sha256:{digest}", config=text, layers=layers
    )


def answer(marker: str) -> dict[str, Any]:
    """What `GET /v1/sandbox` of an image answers with."""
    system = {"os": "Linux", "arch": platform.machine(), "user": "gem", "home_dir": "/home/gem"}
    return {
        "success": True,
        "message": "Success",
        "data": None,
        "hint": None,
        "home_dir": "/home/gem",
        "workspace": None,
        "version": marker,
        "detail": {"system": system, "runtime": {"python": [], "nodejs": []}, "utils": []},
    }


@functools.cache
def _base() -> bytes:
    program = static_busybox()
    if program is None:
        raise FileNotFoundError("no static busybox on this machine")
    links = {f"bin/{applet}": "busybox" for applet in _APPLETS.split()}
    return layer({"bin/busybox": (0o755, program.read_bytes())}, links)


@functools.cache
def _content(marker: str) -> bytes:
    files = {
        "entrypoint": (0o755, _ENTRYPOINT.encode()),
        "etc/passwd": (
            0o644,
            b"root:x:0:0:root:/root:/bin/sh\ngem:x:1000:1000:gem:/home/gem:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
        ),
        "etc/group": (0o644, b"root:x:0:\ngem:x:1000:\nnogroup:x:65534:\n"),
        "www/v1/sandbox": (0o644, json.dumps(answer(marker)).encode()),
    }
    return layer(files, folders={"tmp": 0o1777, "home/gem": 0o777, "root": 0o700, "mnt": 0o755})


def layer(
    files: Mapping[str, tuple[int, bytes]],
    links: Mapping[str, str] | None = None,
    folders: Mapping[str, int] | None = None,
) -> bytes:
    """A tar file that depends on nothing but its arguments: no times, no owners, a fixed order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, mode in (folders or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        for name, (mode, text) in files.items():
            entry = tarfile.TarInfo(name)
            entry.mode, entry.size = mode, len(text)
            tar.addfile(entry, io.BytesIO(text))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, target, 0o777
            tar.addfile(entry)
    return out.getvalue()


def _sha(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()
