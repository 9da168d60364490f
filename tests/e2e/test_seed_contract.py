"""A backend with the seed's five methods and no `spec`, as a third party has it: named by dotted path, or by its entry point."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Folder, folder

_BACKEND = """
import os
from dataclasses import dataclass

@dataclass
class Info:
    sandbox_id: str
    sandbox_url: str
    container_name: str | None = None
    container_id: str | None = None
    created_at: float = 0.0

class MyBackend:
    def __init__(self, root):
        self.root = root
        os.makedirs(root, exist_ok=True)

    def create(self, thread_id, sandbox_id, extra_mounts=None):
        with open(os.path.join(self.root, sandbox_id), "w") as file:
            file.write(repr((thread_id, extra_mounts)))
        return self.discover(sandbox_id)

    def destroy(self, info):
        os.unlink(os.path.join(self.root, info.sandbox_id))

    def is_alive(self, info):
        return os.path.exists(os.path.join(self.root, info.sandbox_id))

    def discover(self, sandbox_id):
        if not os.path.exists(os.path.join(self.root, sandbox_id)):
            return None
        return Info(sandbox_id, f"http://{sandbox_id}.test:8080")

    def list_running(self):
        return [self.discover(name) for name in os.listdir(self.root)]
"""


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Folder]:
    site = tmp_path / "site"
    (site / "mypkg").mkdir(parents=True)
    (site / "mypkg" / "__init__.py").touch()
    (site / "mypkg" / "backends.py").write_text(_BACKEND)
    info = site / "mypkg-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mypkg\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[reconciler.backends]\nmine = mypkg.backends:MyBackend\n")
    here = str(Path(__file__).parents[2])
    with folder(tmp_path, PYTHONPATH=f"{site}:{here}") as made:
        yield made


@pytest.mark.parametrize("kind", ["mypkg.backends:MyBackend", "mine"])
def test_it_is_planned_applied_and_destroyed(cli: Folder, kind: str) -> None:
    root = cli.path / "kept"
    cli.write(f"""\
version: 1
stack: third
backends: {{b: {{type: "{kind}", root: "{root}"}}}}
sandboxes:
  a: {{backend: b, replicas: 2, thread_id: t-1, readiness: none}}
""")
    assert "2 to create" in cli("plan").stdout
    cli("apply", "--auto-approve")
    first = {path.name: path.read_text() for path in root.iterdir()}
    assert list(first.values()) == ["('t-1', None)"] * 2
    assert "No changes" in cli("plan").stdout
    (root / min(first)).unlink()
    assert "it is gone" in cli("drift", code=None).stdout
    cli("apply", "--auto-approve")
    assert {path.name for path in root.iterdir()} == set(first)
    cli("destroy", "--auto-approve")
    assert list(root.iterdir()) == []
