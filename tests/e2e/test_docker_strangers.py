"""Containers that are not ours on a real engine: whatever they are called and labelled, plan, apply and destroy leave
them exactly as they are, and a name of ours that they hold is a clear refusal that destroys nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from reconciler.backends.containers import PREFIX
from reconciler.core.identity import sandbox_id
from reconciler.errors import Refused
from reconciler.model.desired import Address
from reconciler.model.outcome import StepStatus
from reconciler.model.plan import Action
from tests.support.docker import EngineStack, eventually
from tests.support.project import Project

pytestmark = [pytest.mark.usefixtures("docker_engine"), pytest.mark.slow]

TEXT = """\
version: 1
stack: {stack}
backends: {{local: {{type: docker, stop_timeout: 2s, secrets_root: {folder}/secrets}}}}
defaults: {{image: {image}, environment: {{LEVEL: {level}}}}}
sandboxes:
"""


@pytest.fixture
def project(docker_stack: EngineStack, tmp_path: Path) -> Project:
    return Project(tmp_path)


def declare(project: Project, stack: EngineStack, *names: str, level: str = "info") -> None:
    text = TEXT.format(stack=stack.name, folder=project.folder, image=stack.images.agent, level=level)
    project.write(text + "".join(f"  {name}: {{}}\n" for name in names) if names else text[:-1] + " {}\n")


def owned(stack: str, lineage: str, address: str = "a", **other: str) -> dict[str, str]:
    """All labels of ours, as on a container of that owner."""
    mine = {
        "managed-by": "reconciler",
        "sandbox-id": sandbox_id(stack, Address(address), 1),
        "stack": stack,
        "lineage": lineage,
        "address": address,
        "generation": "1",
        "spec-hash": "0" * 32,
    }
    return {f"{PREFIX}{key.replace('_', '-')}": value for key, value in {**mine, **other}.items()}


def lineage_of(stack: EngineStack) -> str:
    return str(stack.container("a")["Config"]["Labels"][f"{PREFIX}lineage"])


def frozen(stack: EngineStack, name: str) -> Mapping[str, Any]:
    """All that an inspection shows; what it lists in no order is sorted."""
    item = dict(stack.inspect(name))
    return {**item, "Mounts": sorted(item["Mounts"], key=str)}


Make = Callable[[EngineStack, str], tuple[str, dict[str, str]]]

STRANGERS: Mapping[str, Make] = {
    "without labels, called as a sandbox of ours":
        lambda s, _: (f"reconciler-{sandbox_id(s.name, Address('z'), 1)}", {}),
    "without labels, called as our sandbox with a letter more":
        lambda s, _: (f"reconciler-{sandbox_id(s.name, Address('a'), 1)}x", {}),
    "without labels, called as our next replacement":
        lambda s, _: (f"reconciler-{sandbox_id(s.name, Address('a'), 2)}-old", {}),
    "without labels, called by the bare id of our sandbox":
        lambda s, _: (sandbox_id(s.name, Address("a"), 1), {}),
    "of another stack, with the same lineage":
        lambda s, lineage: (f"{s.name}-s1", owned(f"{s.name}-x", lineage)),
    "of a stack whose name begins as ours":
        lambda s, lineage: (f"{s.name}-s2", owned(s.name + "a", lineage)),
    "of our stack, with another lineage":
        lambda s, _: (f"{s.name}-s3", owned(s.name, "another-lineage", "other")),
    "of our stack, without a lineage":
        lambda s, _: (f"{s.name}-s4", {k: v for k, v in owned(s.name, "x", "b").items() if "lineage" not in k}),
    "of our stack and lineage, with a generation that is none":
        lambda s, lineage: (f"{s.name}-s5", owned(s.name, lineage, "c", generation="one")),
    "managed by us, and nobody's":
        lambda s, _: (f"{s.name}-s6", {f"{PREFIX}managed-by": "reconciler"}),
    "with labels of ours, managed by nobody":
        lambda s, lineage: (f"{s.name}-s7", {k: v for k, v in owned(s.name, lineage, "d").items()
                                             if not k.endswith("managed-by")}),
    "with the labels of another tool": lambda s, _: (f"{s.name}-s8", {"com.docker.compose.project": s.name}),
}  # fmt: skip


def test_they_survive_everything(project: Project, docker_stack: EngineStack) -> None:
    """All kinds of them at once: through plan, apply, a change that replaces, a removal, a destroy."""
    stack = docker_stack
    declare(project, stack, "a", "b")
    project.applied()
    lineage = lineage_of(stack)
    names = {}
    for says, make in STRANGERS.items():
        name, labels = make(stack, lineage)
        names[says] = stack.stranger(name, labels=labels)
    before = {says: frozen(stack, name) for says, name in names.items()}

    def unharmed(after: str) -> None:
        for says, name in names.items():
            assert stack.exists(name), f"gone after {after}: {says}"
            assert frozen(stack, name) == before[says], f"changed by {after}: {says}"

    assert project.plan().empty
    unharmed("plan")
    assert project.applied().empty
    declare(project, stack, "a", "b", level="debug")
    assert project.applied().count(Action.REPLACE) == 2
    unharmed("a replacement")
    declare(project, stack, "a")
    assert project.applied().count(Action.DESTROY) == 1
    unharmed("a removal")
    destroyed = project.applied(destroy=True)
    assert [step.address for step in destroyed.steps] == ["a"]
    unharmed("destroy")


class TestANameOfOursIsTaken:
    """By a container that is not ours: the sandbox cannot be made, and nothing is destroyed for it."""

    def test_by_one_without_labels(self, project: Project, docker_stack: EngineStack) -> None:
        stack = docker_stack
        name = f"reconciler-{sandbox_id(stack.name, Address('a'), 1)}"
        stranger = stack.stranger(name)
        before = frozen(stack, stranger)
        declare(project, stack, "a", "b")
        report = project.apply()
        told = {result.address: result for result in report.results}
        assert told[Address("b")].status is StepStatus.DONE
        assert told[Address("a")].status is StepStatus.FAILED
        assert f"the name {name} is taken by a container that is not ours" in told[Address("a")].error
        assert "rename it" in told[Address("a")].hint
        assert frozen(stack, stranger) == before
        project.apply(destroy=True)
        assert frozen(stack, stranger) == before

    def test_and_is_free_again(self, project: Project, docker_stack: EngineStack) -> None:
        stack = docker_stack
        stranger = stack.stranger(f"reconciler-{sandbox_id(stack.name, Address('a'), 1)}")
        declare(project, stack, "a")
        assert [result.status for result in project.apply().results] == [StepStatus.FAILED]
        stack.client.api.rename(stranger, f"{stack.name}-moved")
        project.applied()
        assert project.plan().empty
        assert stack.addresses() == ["a"]
        assert stack.inspect(stranger)["State"]["Running"]

    def test_the_name_of_a_replacement(self, project: Project, docker_stack: EngineStack) -> None:
        """The old one goes first unless declared otherwise; what is left is told, and repaired when the name is."""
        stack = docker_stack
        declare(project, stack, "a")
        project.applied()
        stranger = stack.stranger(f"reconciler-{sandbox_id(stack.name, Address('a'), 2)}")
        before = frozen(stack, stranger)
        declare(project, stack, "a", level="debug")
        [result] = project.apply().results
        assert result.status is StepStatus.FAILED
        assert "is taken by a container that is not ours" in result.error
        assert frozen(stack, stranger) == before
        stack.client.api.rename(stranger, f"{stack.name}-moved")
        project.applied()
        assert project.plan().empty
        assert stack.addresses() == ["a"]

    @pytest.mark.parametrize("which", ["stack", "lineage"])
    def test_by_a_sandbox_of_another_owner(
        self, which: str, project: Project, docker_stack: EngineStack
    ) -> None:
        """Its labels are complete, so the plan knows already."""
        stack = docker_stack
        declare(project, stack, "b")
        project.applied()
        lineage = str(stack.container("b")["Config"]["Labels"][f"{PREFIX}lineage"])
        theirs = owned(stack.name, "another") if which == "lineage" else owned(stack.name, lineage)
        if which == "stack":
            theirs[f"{PREFIX}stack"] = f"{stack.name}-x"
        identity = theirs[f"{PREFIX}sandbox-id"]
        stranger = stack.stranger(f"reconciler-{identity}", labels=theirs)
        before = frozen(stack, stranger)
        declare(project, stack, "a", "b", level="debug")
        for act in (project.plan, project.apply):
            with pytest.raises(
                Refused, match=f"a needs the id '{identity}' .* which belongs to stack"
            ) as error:
                act()
            assert theirs[f"{PREFIX}{which}"] in error.value.message
        assert frozen(stack, stranger) == before
        assert stack.container("b")["Config"]["Env"].count("LEVEL=info") == 1
        declare(project, stack, "b")
        project.applied(destroy=True)
        assert frozen(stack, stranger) == before


def test_another_container_under_the_name_of_ours_that_is_gone(
    project: Project, docker_stack: EngineStack
) -> None:
    """Somebody removed our sandbox and took its name: what is there now is theirs."""
    stack = docker_stack
    declare(project, stack, "a")
    project.applied()
    item = stack.container("a")
    stack.client.api.remove_container(item["Id"], force=True)
    stranger = stack.stranger(item["Name"].removeprefix("/"))
    before = frozen(stack, stranger)
    [step] = project.plan().steps
    assert step.action is Action.CREATE
    [result] = project.apply().results
    assert result.status is StepStatus.FAILED
    assert "is taken by a container that is not ours" in result.error
    project.apply(destroy=True)
    assert frozen(stack, stranger) == before


def test_a_stranger_that_ends_and_starts_again_is_nobodys_business(
    project: Project, docker_stack: EngineStack
) -> None:
    stack = docker_stack
    declare(project, stack, "a")
    project.applied()
    stranger = stack.stranger(f"{stack.name}-x", labels=owned(stack.name, "another", "x"))
    stack.client.api.stop(stranger, timeout=5)
    assert project.plan().empty
    stack.client.api.start(stranger)
    eventually(lambda: bool(stack.inspect(stranger)["State"]["Running"]))
    assert project.plan().empty
    before = frozen(stack, stranger)
    project.applied(destroy=True)
    assert frozen(stack, stranger) == before


TWO = """\
version: 1
stack: {stack}
backends:
  one: {{type: docker, stop_timeout: 2s, secrets_root: {folder}/secrets}}
  two: {{type: docker, stop_timeout: 2s, secrets_root: {folder}/secrets, prefix: {prefix}}}
defaults: {{image: {image}}}
sandboxes:
  a: {{backend: {a}}}
  b: {{backend: two}}
"""


@pytest.mark.parametrize("prefix", ["reconciler", "second"])
def test_two_backends_on_one_engine_leave_each_other_alone(
    prefix: str, project: Project, docker_stack: EngineStack
) -> None:
    stack = docker_stack
    words = {"stack": stack.name, "folder": project.folder, "image": stack.images.agent, "prefix": prefix}
    project.write(TWO.format(a="one", **words))
    project.applied()
    before = {item["Id"] for item in stack.containers()}
    assert project.plan().empty, project.plan().text()
    assert project.applied().empty
    assert {item["Id"] for item in stack.containers()} == before
    project.write(TWO.format(a="two", **words))
    project.applied()
    assert project.plan().empty, project.plan().text()
    assert stack.addresses() == ["a", "b"]
    project.applied(destroy=True)
    assert stack.containers() == []
