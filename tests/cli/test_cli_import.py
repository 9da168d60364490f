"""`reconciler import` and `imports:` as whole commands: real configuration, real file store, a world kept in a file."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema_rs
import pytest

from reconciler.backends.memory import MemoryBackend
from reconciler.cli.main import run
from reconciler.config.schemas import schema_text
from reconciler.model.desired import Address, Owner, SandboxSpec

ID = "deer-flow-sandbox-ab12cd34"
CONFIG = """\
version: 1
stack: research
backends:
  local: {type: "reconciler.backends.memory:MemoryBackend", path: WORLD}
sandboxes:
  researcher:
    image: aio:1
    replicas: 2
"""
IMPORTS = f'imports: [{{to: "researcher[0]", id: {ID}}}]\n'


class Project:
    """A directory with a configuration, and a world in which another system has started a sandbox."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.backend = MemoryBackend(path=str(path / "world.json"))
        self.write(CONFIG)
        self.backend.create(None, ID, spec=SandboxSpec(image="aio:1"))

    def write(self, text: str) -> None:
        text = text.replace("WORLD", str(self.path / "world.json"))
        (self.path / "sandboxes.yaml").write_text(text, encoding="utf-8")

    def run(self, *args: str) -> int:
        return run(["-C", str(self.path), *args])

    def state(self) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.path / "state/research.json").read_text())["sandboxes"]
        return found

    def live(self) -> list[str]:
        return [info.sandbox_id for info in self.backend.list_running()]


def words(text: str) -> str:
    """A text as if the terminal had no end."""
    return " ".join(text.split())


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("COLUMNS", "100")
    return Project(tmp_path)


def test_it_says_what_it_recorded_and_what_the_next_plan_would_do(project, capsys):
    assert project.run("import", "researcher[0]", ID) == 0
    shown = capsys.readouterr()
    assert words(shown.out) == (
        f"researcher[0] is {ID} on local now: recorded as ready, at memory://{ID}. "
        "It is as declared: the next plan leaves it alone."
    )
    assert shown.err == ""
    record = project.state()["researcher[0]"]
    assert (record["sandbox_id"], record["imported"], record["status"]) == (ID, True, "ready")
    jsonschema_rs.validator_for(json.loads(schema_text("state"))).validate(
        json.loads((project.path / "state/research.json").read_text())
    )
    assert project.run("plan") == 0
    assert "Plan: 1 to create, 0 to change, 0 to replace, 0 to destroy." in capsys.readouterr().out


def test_what_differs_is_shown_field_by_field_with_its_line(project, capsys):
    project.backend.alter(ID, "image", "aio:0")
    assert project.run("import", "researcher[0]", ID) == 0
    out = capsys.readouterr().out
    assert "It differs from the declaration in 1 field:" in words(out)
    assert 'image "aio:0" → "aio:1" # forces replacement sandboxes.yaml:7' in words(out)
    assert words(out).endswith("The next plan would replace it: destroy it, and create a new one.")
    assert project.live() == [ID]


def test_json_is_one_object(project, capsys):
    project.backend.alter(ID, "image", "aio:0")
    assert project.run("import", "researcher[0]", ID, "--json") == 0
    [text] = capsys.readouterr().out.splitlines()
    found = json.loads(text)
    assert (found["type"], found["next"], found["diagnostics"]) == ("import", "replace", [])
    assert found["record"]["address"] == "researcher[0]"
    assert (found["record"]["sandbox_id"], found["record"]["imported"]) == (ID, True)
    assert [(c["path"], c["before"], c["after"]) for c in found["changes"]] == [("image", "aio:0", "aio:1")]


def test_the_record_says_that_others_made_it(project, capsys):
    project.run("import", "researcher[0]", ID)
    capsys.readouterr()
    assert project.run("state", "show", "researcher[0]") == 0
    assert "others: it was imported" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        pytest.param(("researcher[0]", "Not_An_Id"), 64, "1 to 51 of a-z", id="a name that can be no id"),
        pytest.param(("researcher[0]",), 64, "Missing argument 'ID'", id="no id"),
        pytest.param(("researcher", ID), 1, "researcher is not declared", id="a whole group"),
        pytest.param(
            ("researcher[0]", "nothing"), 1, "nothing of that name is there", id="what is not there"
        ),
        pytest.param(("researcher[0]", "others"), 7, "belongs to stack 'theirs'", id="another stack's"),
        pytest.param(("researcher[0]", "dead"), 7, "it does not run (exit code 137)", id="a dead one"),
    ],
)
def test_it_refuses(project, capsys, args, code, says):
    owner = Owner(stack="theirs", lineage="l", address=Address("a"), generation=1, spec_hash="0" * 32)
    project.backend.create(None, "others", spec=SandboxSpec(image="aio:1", owner=owner))
    project.backend.create(None, "dead", spec=SandboxSpec(image="aio:1"))
    project.backend.kill("dead")
    assert project.run("import", *args) == code
    assert says in words(capsys.readouterr().err)
    assert not (project.path / "state/research.json").exists()


def test_an_address_that_is_recorded_is_refused_and_the_state_stays(project, capsys):
    project.run("import", "researcher[0]", ID)
    project.backend.create(None, "second", spec=SandboxSpec(image="aio:1"))
    before = project.state()
    assert project.run("import", "researcher[0]", "second") == 7
    assert "researcher[0] is recorded already" in capsys.readouterr().err
    assert project.state() == before


def test_the_state_before_an_import_is_kept_beside_it(project):
    assert project.run("apply", "--auto-approve") == 0
    before = (project.path / "state/research.json").read_text()
    project.write(CONFIG.replace("replicas: 2", "replicas: 3"))
    assert project.run("import", "researcher[2]", ID) == 0
    assert (project.path / "state/research.json.backup").read_text() == before


def test_an_entry_in_the_file_adopts_it_and_the_plan_says_so(project, capsys):
    project.write(CONFIG + IMPORTS)
    assert project.run("plan") == 0
    out = capsys.readouterr().out
    assert f"<= researcher[0] [local] declared in `imports` (imports {ID})" in words(out)
    assert project.run("apply", "--auto-approve") == 0
    assert project.state()["researcher[0]"]["imported"] is True
    assert ID in project.live()
    capsys.readouterr()
    assert project.run("plan", "--detailed-exitcode") == 0


def test_an_entry_that_replaces_says_so_with_the_field(project, capsys):
    project.backend.alter(ID, "image", "aio:0")
    project.write(CONFIG + IMPORTS)
    assert project.run("plan") == 0
    out = capsys.readouterr().out
    assert f"declared in `imports` (imports {ID} and replaces it)" in words(out)
    assert '"aio:0" → "aio:1" # forces replacement' in words(out)


def test_the_plan_is_in_the_event_schema(project, capsys):
    project.write(CONFIG + IMPORTS)
    assert project.run("plan", "--json") == 0
    validator = jsonschema_rs.validator_for(json.loads(schema_text("event")))
    found = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    for event in found:
        validator.validate(event)
    assert ("researcher[0]", "adopt", "imported") in [
        (event["address"], event["action"], event["reason"])
        for event in found
        if event["type"] == "planned_change"
    ]


def test_an_entry_whose_object_is_not_there_is_an_error_with_its_line(project, capsys):
    project.backend.remove(ID)
    project.write(CONFIG + IMPORTS)
    assert project.run("plan") == 1
    err = capsys.readouterr().err
    assert f"sandboxes.yaml:9: researcher[0] cannot import '{ID}': nothing of that name is there" in err
    assert "remove the import to have a new one created" in err
