"""`examples/container/` as its readers take it: by Compose's published schema, by Compose, and by rule."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler import __version__
from tests.ci.composed import compose_command
from tests.ci.lab import SECRET
from tests.ci.watcher_image import CONTAINER, EXTRAS
from tests.support.cli import Folder
from tests.support.required import skip_unless

COMPOSE = CONTAINER / "compose.yaml"


def run(*words: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if key != "DOCKER_GID"}
    return subprocess.run(
        [str(word) for word in words],
        cwd=CONTAINER,
        env={**clean, **environ},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )


def watch_service() -> dict[str, Any]:
    service: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]["watch"]
    return service


def test_the_compose_file_is_valid_by_the_published_schema(tmp_path: Path) -> None:
    check: list[str | Path] = [
        Path(sys.executable).parent / "check-jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
    ]
    assert run(*check, COMPOSE).returncode == 0
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.read_text(encoding="utf-8").replace("read_only:", "readonly:"), encoding="utf-8")
    done = run(*check, wrong)
    assert done.returncode == 1
    assert "readonly" in done.stdout


def test_compose_takes_it_and_asks_for_the_group_of_the_socket() -> None:
    command = compose_command()
    skip_unless(bool(command), "Compose is not installed")
    done = run(*command, "-f", COMPOSE, "config", DOCKER_GID="998")
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["services"]["watch"]["group_add"] == ["998"]
    refused = run(*command, "-f", COMPOSE, "config")
    assert refused.returncode != 0
    assert "stat -c %g /var/run/docker.sock" in refused.stderr


def test_no_secret_is_written_into_it() -> None:
    """What is passed on from outside has no value there."""
    assert {key for key, value in watch_service()["environment"].items() if value is not None} == {"LISTEN"}


def test_everything_is_mounted_read_only_but_the_state_and_the_socket() -> None:
    targets = {mount.rpartition(":")[2]: mount for mount in watch_service()["volumes"]}
    assert set(targets) == {"ro", "/var/lib/reconciler", "/var/run/docker.sock"}
    assert watch_service()["read_only"] is True


def test_the_image_is_of_this_version_and_has_what_a_watch_needs() -> None:
    wanted = f"ARG PACKAGE=sandbox-reconciler[{','.join(EXTRAS)}]=={__version__}"
    assert wanted in (CONTAINER / "Dockerfile").read_text(encoding="utf-8").splitlines()
    assert f":-sandbox-reconciler:{__version__}}}" in watch_service()["image"]


@pytest.mark.parametrize("words", [["validate"], ["fmt", "--check"]], ids=" ".join)
def test_the_configuration_passes(words: list[str], tmp_path: Path) -> None:
    Folder(tmp_path, {"API_TOKEN": SECRET})("-C", str(CONTAINER / "config"), *words)
