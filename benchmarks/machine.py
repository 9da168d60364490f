"""Where it was measured: machine, kernel, and the versions of us and of every peer; why a peer is absent."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
from pathlib import Path
from shutil import which

from tests.support.docker import connect, docker_host, engine_lacks

ABSENT = "not installed"


def machine() -> dict[str, str]:
    """In the order in which it is printed. A peer that is not here has `ABSENT`, or what it lacks."""
    from reconciler import __version__

    return {
        "reconciler": __version__ + _commit(),
        "machine": f"{os.cpu_count()} × {_processor()}, {_memory_gb():.0f} GB",
        "kernel": f"{platform.system()} {platform.release()}",
        "load before": " ".join(f"{each:.1f}" for each in os.getloadavg()),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "Terraform": terraform() or ABSENT,
        "Docker": docker(),
        "docker-compose": compose_version() or ABSENT,
    }


def terraform() -> str:
    """The version on the PATH; "" without one."""
    return _version(["terraform", "version"])


def docker() -> str:
    """The engine's version, or why none can be asked."""
    lacks = engine_lacks(docker_host())
    if lacks:
        return lacks
    with contextlib.closing(connect(docker_host())) as client:
        return f"Docker {client.version()['Version']}"


def docker_compose() -> list[str]:
    """The command of a docker-compose of this machine; empty without one."""
    if which("docker-compose"):
        return ["docker-compose"]
    return ["docker", "compose"] if _said(["docker", "compose", "version"]) else []


def compose_version() -> str:
    command = docker_compose()
    return _version([*command, "version"]) if command else ""


def _version(argv: list[str]) -> str:
    found = re.search(r"\d+\.\d+\.\d+\S*", _said(argv))
    return found[0].rstrip(",") if found else ""


def _said(argv: list[str]) -> str:
    """What a command says; "" when it is not here or fails."""
    if which(argv[0]) is None:
        return ""
    done = subprocess.run(argv, capture_output=True, encoding="utf-8", timeout=60)
    return done.stdout if done.returncode == 0 else ""


def _commit() -> str:
    found = _said(["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]).strip()
    return f" ({found})" if found else ""


def _processor() -> str:
    """As the kernel names it."""
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
        if found:
            return found[1]
    return platform.machine()


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
