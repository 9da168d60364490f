"""Every field of a docker sandbox is changed once, alone, on a real engine: what the plan says, what becomes of the
container, and that nothing is left to do.

All rows of the matrix are sandboxes of one stack, applied together twice; what was seen on the way is kept, and each
row is judged by itself. The containers are looked at through the SDK, never through the backend's own reader.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import ANY

import pytest
import yaml

from reconciler.backends.containers import PREFIX
from reconciler.errors import ConfigError
from reconciler.model.desired import Scalar
from reconciler.model.diagnostic import Diagnostic
from reconciler.model.outcome import StepResult, StepStatus
from reconciler.model.plan import SYMBOL, Action, FieldChange, Plan, Step
from tests.e2e.docker_rows import ROWS, Live, Row
from tests.e2e.every_field import canonical_paths, generic, keys_in, schema_keys
from tests.support.docker import EngineStack, Images, engine_stack
from tests.support.images import image
from tests.support.once import Verdicts, judged, once, passed
from tests.support.project import Project
from tests.support.registry import Registry, registry

if TYPE_CHECKING:
    from docker import DockerClient

pytestmark = [
    pytest.mark.usefixtures("docker_engine"),
    pytest.mark.slow,
]

FIRST, SECOND = "first-secret-7f3a", "second-secret-91bc"
HEAD = """\
version: 1
stack: {stack}
variables: {{first: {{type: string, sensitive: true}}}}
backends: {{local: {{type: docker, stop_timeout: 2s, secrets_root: {folder}/secrets}}}}
defaults: {{image: {image}}}
sandboxes:
"""


@dataclass
class Stage:
    """One apply of all rows: its plan, how each step ended, the plan right after it, the same from close looks at all
    that is there, what those do not show as declared, and what the engine showed."""

    plan: Plan
    results: Mapping[str, StepResult]
    after: Plan
    closely: Plan
    unread: Mapping[str, Mapping[str, tuple[Scalar, Scalar]]]
    shown: dict[str, object] = field(default_factory=dict)  # by row; an exception where the view raised one
    items: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def step(self, row: Row) -> Step | None:
        return next((step for step in self.plan.steps if step.address == row.name), None)


@dataclass
class Matrix:
    """Both stages, and what `<word>` means."""

    stack: EngineStack
    project: Project
    names: dict[str, object]
    stages: list[Stage] = field(default_factory=list)
    text: str = ""

    def fill(self, value: Any, row: Row | None = None) -> Any:
        """With every `<word>` replaced; one that stands alone may stand for anything."""
        if isinstance(value, str):
            names = {**self.names, **({} if row is None else self.about(row))}
            for name, meant in names.items():
                if value == f"<{name}>":
                    return meant
                value = value.replace(f"<{name}>", str(meant))
            return value
        if isinstance(value, list | tuple):
            return type(value)(self.fill(one, row) for one in value)
        return value

    def about(self, row: Row) -> Mapping[str, object]:
        """What is known only when the containers are there. `same` is the hostname that the first one had."""
        known: dict[str, object] = {"self": f"{row.name}:", "any": ANY}
        for stage, when in zip(self.stages, ("before", "after"), strict=False):
            for address, item in stage.items.items():
                known[f"id of {address} {when}"] = item["Config"]["Labels"][f"{PREFIX}sandbox-id"]
        if self.stages and row.name in self.stages[0].items:
            known["same"] = self.stages[0].items[row.name]["Id"][:12]
        return known

    def write(self, *, changed: bool) -> None:
        text = HEAD.format(stack=self.stack.name, folder=self.project.folder, image=self.stack.images.agent)
        for row in ROWS:
            block = self.fill(row.after if changed else row.before)
            text += "".join(f"{line}\n" for line in (f"  {row.name}:", *_indented(block)))
        moving = "chown" if changed else "rmdir"
        self.project.write(_profile(moving), "moving.json")
        self.project.environ["MOVING"] = SECOND if changed else FIRST
        self.project.write(text)
        self.text = text

    def go(self) -> None:
        report = self.project.apply()
        stage = Stage(
            plan=report.plan,
            results={str(result.address): result for result in report.results},
            after=self.project.plan(),
            closely=self.project.plan_closely(),
            unread=self.project.unread(),
        )
        self.stages.append(stage)
        with ThreadPoolExecutor(8) as pool:
            found = {item["Config"]["Labels"][f"{PREFIX}address"]: item for item in self.stack.containers()}
            stage.items.update(found)
            rows = [row for row in ROWS if row.name in found]
            for row, shown in zip(rows, pool.map(self._show, rows), strict=True):
                stage.shown[row.name] = shown

    def _show(self, row: Row) -> object:
        item = self.stages[-1].items[row.name]

        def run(*command: str) -> str:
            container = self.stack.client.containers.get(item["Id"])
            for _ in range(3):  # a busy engine sometimes loses the output of a command that ends at once
                done = container.exec_run(list(command))
                if done.output or done.exit_code:
                    break
            return str(done.output.decode().strip()) if done.exit_code == 0 else ""

        try:
            return row.view(Live(item=item, run=run))
        except Exception as error:
            return error


Check = Callable[[Matrix], None]


def _indented(block: str) -> list[str]:
    return [f"    {line}" for line in block.splitlines() if line]


def _profile(*refused: str) -> str:
    rule = {"names": list(refused), "action": "SCMP_ACT_ERRNO"}
    return json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})


def _free_ports(count: int) -> list[int]:
    """Below the range that the kernel and the engine choose from."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20000, 32000)
        with contextlib.suppress(OSError), socket.socket() as taken:
            taken.bind(("127.0.0.1", port))
            if port not in found:
                found.append(port)
    return found


def _names(stack: EngineStack, project: Project, held: Registry) -> dict[str, object]:
    about = stack.client.info()
    digests = {
        f"{name} by digest": f"{held.host}/{stack.name}@{held.put(stack.name, name, image(marker=marker))}"
        for name, marker in (("agent", "1"), ("other", "2"))
    }
    return {
        "agent": stack.images.agent,
        "other": stack.images.other,
        **digests,
        "folder": str(project.folder),
        "first": FIRST,
        "second": SECOND,
        "all cpu": about["NCPU"] * 1_000_000_000,
        "all memory": about["MemTotal"],
        **{f"port {number}": str(port) for number, port in enumerate(_free_ports(5), start=1)},
        **{f"volume {number}": stack.volume(f"volume{number}") for number in (1, 2)},
        **{f"network {number}": stack.network(f"net{number}") for number in (1, 2)},
    }


@pytest.fixture(scope="module")
def verdicts(
    docker_client: DockerClient, images: Images, docker_engine: str, tmp_path_factory: pytest.TempPathFactory
) -> Verdicts:
    def make() -> dict[str, str]:
        with engine_stack(docker_client, images, docker_engine) as stack, registry() as held:
            project = Project(tmp_path_factory.mktemp("fields"), {"first": FIRST}, {"FIRST": FIRST})
            try:
                return judged(_matrix(stack, project, held), CHECKS)
            finally:
                _remove_all(stack, held)

    return once(tmp_path_factory, "docker-fields", make)


def _matrix(stack: EngineStack, project: Project, held: Registry) -> Matrix:
    for folder in ("one", "two"):
        (project.folder / folder).mkdir()
    project.write("token of a file\n", "token.txt")
    project.write(_profile("mkdir", "mkdirat"), "profile.json")
    made = Matrix(stack, project, _names(stack, project, held))
    for changed in (False, True):
        made.write(changed=changed)
        made.go()
    return made


def _remove_all(stack: EngineStack, held: Registry) -> None:
    """At once, where the stack's own end would go one by one."""
    with ThreadPoolExecutor(8) as pool:
        ids = [item["Id"] for item in stack.containers()]
        list(pool.map(lambda one: stack.client.api.remove_container(one, force=True), ids))
    for made in stack.client.images.list():
        for digest in made.attrs.get("RepoDigests") or ():
            if digest.startswith(f"{held.host}/"):
                stack.images.remove(digest)


# -- the rows


def _changes_alone(row: Row, matrix: Matrix) -> None:
    first, second = matrix.stages
    _is_done(row, first, Action.CREATE)
    _is_left_alone(row, first)
    assert _shown(row, first) == matrix.fill(row.live[0], row), "the container is not as declared at first"
    step = second.step(row)
    if row.action is None:
        assert step is None, f"nothing was to be done, but:\n{_told(step)}"
    else:
        _is_done(row, second, row.action)
        assert step is not None
        _says_what_and_where(row, step, matrix)
    assert _shown(row, second) == matrix.fill(row.live[1], row), "the container is not as declared now"
    same = first.items[row.name]["Id"] == second.items[row.name]["Id"]
    assert same == (row.action is not Action.REPLACE), "the same container" if same else "another container"
    _is_left_alone(row, second)


def _is_done(row: Row, stage: Stage, action: Action) -> None:
    step, result = stage.step(row), stage.results.get(row.name)
    assert step is not None, f"{action} was expected, and the plan has nothing to do"
    assert step.action is action, f"{action} was expected:\n{_told(step)}"
    assert result is not None
    assert result.status is StepStatus.DONE, (
        f"{action} failed: {result.error} ({result.hint}) {result.log_tail}"
    )


def _is_left_alone(row: Row, stage: Stage) -> None:
    for plan, looks in ((stage.after, ""), (stage.closely, " of close looks")):
        left = next((step for step in plan.steps if step.address == row.name), None)
        assert left is None, f"the plan{looks} right after is not empty:\n{_told(left)}"
        assert row.name in plan.unchanged
    unread = {path for path in stage.unread[row.name] if generic(path) not in NOT_READ}
    assert unread <= set(row.unread), f"a look does not show it as declared: {stage.unread[row.name]}"


def _says_what_and_where(row: Row, step: Step, matrix: Matrix) -> None:
    assert step.symbol == SYMBOL[step.action]
    assert {change.path for change in step.changes} == set(row.changes), _told(step)
    lines = matrix.text.splitlines()
    begins, ends = _lines_of(row, lines)
    for change in step.changes:
        replaces = row.action is Action.REPLACE
        assert change.forces_replacement == replaces, f"{change.path} says otherwise:\n{_told(step)}"
        assert ("# forces replacement" in _told(step, change)) == replaces
        assert not change.outside, f"{change.path} is no drift:\n{_told(step)}"
        at = change.position
        assert at is not None, f"{change.path} points nowhere"
        assert at.file == "sandboxes.yaml"
        assert begins <= at.line < ends, f"{change.path} points out of its block: {at}"
        said = lines[at.line - 1][at.column - 1 :]
        expected = matrix.fill(row.changes[change.path], row)
        assert said.startswith(expected), f"{change.path} points to {said!r}, not to {expected!r} ({at})"
        assert f"@ sandboxes.yaml:{at.line}" in _told(step, change)


def _lines_of(row: Row, lines: list[str]) -> tuple[int, int]:
    """The first line of a sandbox's block, and the first after it, counted from 1."""
    begins = lines.index(f"  {row.name}:") + 1
    others = (n for n, line in enumerate(lines, 1) if n > begins and not line.startswith("    "))
    return begins, next(others, len(lines) + 1)


def _told(step: Step | None, change: FieldChange | None = None) -> str:
    """A plan's text of this step; with `change` its line alone."""
    if step is None:
        return ""
    lines = Plan(stack="s", lineage="l", serial=0, steps=(step,)).text().splitlines()[1:]
    if change is None:
        return "\n".join(lines)
    return next(line for line in lines if line.strip().startswith(f"{change.path}:"))


def _shown(row: Row, stage: Stage) -> object:
    assert row.name in stage.shown, "there is no container"
    shown = stage.shown[row.name]
    if isinstance(shown, Exception):
        raise shown
    return shown


# -- the whole


def _one_container_each_and_no_more(matrix: Matrix) -> None:
    assert sorted(matrix.stack.addresses()) == sorted(row.name for row in ROWS)


def _plans_after_an_apply_are_empty(matrix: Matrix) -> None:
    for stage in matrix.stages:
        for plan in (stage.after, stage.closely):
            assert plan.empty, plan.text()


def _no_secret_shows_anywhere(matrix: Matrix) -> None:
    """But where a row asks for it: in the environment of a container, with `as: environment`."""
    exposed = next(row.name for row in ROWS if row.says == "secrets: into the environment")
    state = (matrix.project.folder / "state").rglob("*")
    kept = [path for path in state if path.is_file() and path.suffix != ".key"]
    inspected = [
        json.dumps(item) for stage in matrix.stages for name, item in stage.items.items() if name != exposed
    ]
    said = [plan.text() for stage in matrix.stages for plan in (stage.plan, stage.after, stage.closely)]
    assert kept
    for value in (FIRST, SECOND, "token of a file"):
        written = [path.read_text(encoding="utf-8") for path in kept]
        assert not any(value in text for text in (*written, *inspected, *said))


WHOLE: Mapping[str, Check] = {
    "one container each, and no more": _one_container_each_and_no_more,
    "plans after an apply are empty": _plans_after_an_apply_are_empty,
    "no secret shows anywhere": _no_secret_shows_anywhere,
}
CHECKS: Mapping[str, Check] = {**{row.says: partial(_changes_alone, row) for row in ROWS}, **WHOLE}


@pytest.mark.parametrize("row", [row.says for row in ROWS])
def test_a_field_changes_alone(row: str, verdicts: Verdicts) -> None:
    passed(verdicts, row)


@pytest.mark.parametrize("check", WHOLE)
def test_of_all_of_them(check: str, verdicts: Verdicts) -> None:
    passed(verdicts, check)


# Nobody can tell them from a look: values that it must not see, a profile's place on the disk.
NOT_READ = {"secrets.*", "secrets.*.as", "security.seccomp"}


# -- completeness: a new field or key without a row fails here

NOT_ON_THE_OBJECT = {
    "template": "shares keys, and is gone when they are read",
    "replicas": "how many, not how",
    "for_each": "how many, not how",
    "backend": "where, not how: test_docker_strangers moves one",
    "rollout": "the order of replacements",
    "drift": "what `watch` does",
}
# Accepted, and without an effect yet.
LATER = {
    "lifecycle.prevent_destroy",
    "lifecycle.ignore_changes",
    "lifecycle.replace_triggered_by",
    "lifecycle.max_lifetime",
}


def test_there_is_a_row_for_every_path_of_the_canonical_form() -> None:
    covered = {generic(path) for row in ROWS for path in row.changes}
    assert canonical_paths() - covered == set(), "add a row to docker_rows.py"


def test_there_is_a_row_for_every_key_of_the_schema() -> None:
    covered: set[str] = set()
    for row in ROWS:
        for text in (row.before, row.after):
            covered |= keys_in(yaml.safe_load(text.replace("<", "").replace(">", "")) or {})
    missing = {key for key in schema_keys() - covered if key.split(".")[0] not in NOT_ON_THE_OBJECT}
    assert missing - LATER == set(), "add a row to docker_rows.py"
    assert not LATER & covered, "take it out of LATER"


def test_names_of_rows_are_their_own() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize(
    ("block", "field"),
    [
        pytest.param("network: {mode: allowlist, allow: [pypi.org]}", "network.allow", id="hosts to allow"),
        pytest.param("network: {mode: allowlist, allow: [pypi.org]}", "network.mode", id="an allowlist"),
    ],
)
def test_what_an_engine_cannot_hold_is_refused_with_its_line(
    block: str, field: str, docker_stack: EngineStack, tmp_path: Path
) -> None:
    project = Project(tmp_path)
    project.write(HEAD.format(stack=docker_stack.name, folder=tmp_path, image="x") + f"  a:\n    {block}\n")
    project.variables = {"first": FIRST}
    with pytest.raises(ConfigError) as error:
        project.apply()
    remarks = [remark for remark in error.value.diagnostics if isinstance(remark, Diagnostic)]
    told = [remark.position for remark in remarks if f"`{field}" in remark.summary]
    assert [position.short for position in told if position] == ["sandboxes.yaml:8"]
    assert docker_stack.containers() == []
