"""Every example on a real engine: applied, it answers, the plan right after is empty, and destroy leaves nothing.

An example for the `process` backend gets a `docker` one in its place, by the one word that it takes; an example for
Docker runs as it is, but for the image that no registry is asked for.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from reconciler.model.state import Status
from tests.docs.pages import EXAMPLES, ROOT
from tests.support.docker import EngineStack
from tests.support.project import Project

pytestmark = [pytest.mark.usefixtures("docker_engine"), pytest.mark.slow]

# What needs more than an engine, and where it is applied instead.
NOT_HERE = {"cluster": "tests/e2e/test_kubernetes_stack.py", "remote": "tests/e2e/test_remote_stack.py"}
AIO = "ghcr.io/agent-infra/sandbox:latest"
_ENTRY = re.compile(r"^  local: \{type: (process|docker)\b.*$", re.MULTILINE)


def on_docker(text: str, stack: EngineStack, secrets: Path) -> str:
    """A file of an example with the test's own stack, engine, image and volumes."""
    entry = (
        f"  local: {{type: docker, image: {stack.images.agent}, stop_timeout: 2s, secrets_root: {secrets}}}"
    )
    text = text.replace(AIO, stack.images.agent).replace("researcher-data", f"{stack.name}-data")
    if re.search(r"^stack: ", text, re.MULTILINE):
        text = re.sub(r"^stack: .*$", f"stack: {stack.name}", text, flags=re.MULTILINE)
        if not re.search(r"^backends:", text, re.MULTILINE):
            text += f"\nbackends:\n{entry}\n"
    return _ENTRY.sub(lambda _: entry, text)


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in NOT_HERE])
def test_an_example_converges_at_once(name: str, docker_stack: EngineStack, tmp_path: Path) -> None:
    stack, folder = docker_stack, tmp_path / name
    shutil.copytree(ROOT / "examples" / name, folder)
    for file in folder.glob("*.yaml"):
        if not file.name.endswith(".vars.yaml"):
            file.write_text(on_docker(file.read_text(encoding="utf-8"), stack, tmp_path / "secrets"))
    stack.volume()
    project = Project(folder, {"password": "p-1"} if name == "secrets" else {}, {"API_TOKEN": "t-1"})
    project.applied()
    with project.opened() as context:
        assert {config.type for config in context.desired.backends.values()} == {"docker"}
        state = context.store.read()
    assert state is not None
    assert sorted(state.sandboxes) == stack.addresses()
    assert {record.status for record in state.sandboxes.values()} == {Status.READY}
    for plan in (project.plan(), project.plan_closely()):
        assert plan.empty, plan.text()
    project.applied(destroy=True)
    assert stack.containers() == []
    assert not list((tmp_path / "secrets").glob("docker/*"))


def test_what_is_left_out_is_there() -> None:
    assert set(NOT_HERE) <= set(EXAMPLES)
    for name, test in NOT_HERE.items():
        assert f'"examples" / "{name}"' in (ROOT / test).read_text(encoding="utf-8")
