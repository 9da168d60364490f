"""`reconciler state mv`, `rm`, `pull`, `push` and `history` as whole commands, on a real file store."""

from __future__ import annotations

import io
import json
import stat
from pathlib import Path

import jsonschema_rs
import pytest

from reconciler.backends.memory import MemoryBackend
from reconciler.cli.main import run
from reconciler.config.schemas import schema_text
from reconciler.stores.file import FileStore
from reconciler.testing.store_conformance import a_record

CONFIG = """\
version: 1
stack: research
backends:
  local: {type: "reconciler.backends.memory:MemoryBackend", path: WORLD}
sandboxes:
  db: {image: "postgres:16"}
  researcher: {image: "aio:1", replicas: 2, depends_on: [db]}
"""


class Project:
    """A directory with a configuration that was applied: serial 2, three sandboxes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "sandboxes.yaml").write_text(
            CONFIG.replace("WORLD", str(path / "world.json")), encoding="utf-8"
        )
        assert self.run("apply", "--auto-approve") == 0

    def run(self, *args: str) -> int:
        return run(["-C", str(self.path), *args])

    def store(self) -> FileStore:
        return FileStore("research", path=self.path / "state")

    def serial(self) -> int:
        return self.store().history()[0].serial

    def addresses(self) -> list[str]:
        state = self.store().read()
        assert state is not None
        return sorted(state.sandboxes)

    def live(self) -> list[str]:
        return [info.sandbox_id for info in MemoryBackend(path=str(self.path / "world.json")).list_running()]


@pytest.fixture
def project(tmp_path, monkeypatch, capsys) -> Project:
    monkeypatch.setenv("COLUMNS", "300")  # wider than any path of a temporary folder
    made = Project(tmp_path)
    capsys.readouterr()
    return made


def told(capsys) -> tuple[str, str]:
    captured = capsys.readouterr()
    return captured.out, captured.err


def one(text: str) -> dict:
    [line] = text.splitlines()
    return json.loads(line)


UNDO = "reconciler state rollback {0}"


def test_mv_says_what_moved_and_how_to_undo_it(project, capsys):
    serial, live = project.serial(), project.live()
    assert project.run("state", "mv", "researcher", "worker") == 0
    out, err = told(capsys)
    assert out.startswith("researcher[0] → worker[0]\nresearcher[1] → worker[1]\n\n2 records moved in ")
    assert f"research.json, serial {serial + 1} now. No sandbox was touched." in out
    assert err == (
        "Next: name them so in the configuration as well; `reconciler plan` shows what is left to do.\n"
        f"The version before is serial {serial}. To undo: {UNDO.format(serial)}\n"
    )
    assert project.addresses() == ["db", "worker[0]", "worker[1]"]
    assert project.live() == live


def test_rm_says_what_was_let_go(project, capsys):
    serial, live = project.serial(), project.live()
    assert project.run("state", "rm", "researcher[1]", "d?") == 0
    out, err = told(capsys)
    assert [line.split()[0] for line in out.splitlines()[:2]] == ["db", "researcher[1]"]
    assert "2 records removed in " in out
    assert "or the next apply makes new ones" in err
    assert UNDO.format(serial) in err
    assert project.addresses() == ["researcher[0]"]
    assert project.live() == live
    document = json.loads((project.path / "state/research.json").read_text())
    assert [entry["address"] for entry in document["released"]] == ["db", "researcher[1]"]
    jsonschema_rs.validator_for(json.loads(schema_text("state"))).validate(document)


def test_the_undo_that_is_told_undoes(project, capsys):
    before, live = project.store().read(), project.live()
    assert project.run("state", "rm", "researcher*", "--json") == 0
    found = one(told(capsys)[0])
    assert found["undo"] == UNDO.format(found["backup"])
    assert project.run(*found["undo"].split()[1:], "--auto-approve") == 0
    out, err = told(capsys)
    assert out.startswith("+ researcher[0]\n+ researcher[1]\n\n3 records stored in ")
    assert "No sandbox was touched." in out
    assert "Next: `reconciler plan`: what is recorded again is looked for" in err
    assert project.store().read().sandboxes == before.sandboxes
    assert project.store().read().released == {}
    assert project.live() == live


def test_what_was_pulled_can_be_pushed_back(project, capsys):
    before = project.store().read()
    assert project.run("state", "rm", "researcher*", "--json") == 0
    serial = str(one(told(capsys)[0])["backup"])
    assert project.run("state", "pull", "--serial", serial, "-o", "old.json") == 0
    assert project.run("state", "push", "old.json") == 7
    assert "to go back on purpose, push it with --force" in told(capsys)[1]
    assert project.run("state", "push", "--force", "old.json") == 0
    assert told(capsys)[0].startswith("+ researcher[0]\n+ researcher[1]\n\n3 records stored in ")
    assert project.store().read().sandboxes == before.sandboxes
    assert project.store().read().released == {}


@pytest.mark.parametrize(
    ("args", "would"),
    [
        (("mv", "db", "base"), "it would move 1 record in "),
        (("rm", "researcher"), "it would remove 2 records in "),
        (("push", "one.json"), "it would store 1 record in "),
        (("rollback", "1"), "it would store 0 records in "),
    ],
    ids=["mv", "rm", "push", "rollback"],
)
def test_a_dry_run_says_what_it_would_do_and_does_nothing(project, capsys, args, would):
    document = json.loads((project.path / "state/research.json").read_text())
    document["sandboxes"] = {"db": document["sandboxes"]["db"]}
    (project.path / "one.json").write_text(json.dumps(document))
    before = (project.path / "state/research.json").read_bytes()
    assert project.run("state", *args, "--dry-run") == 0
    out, err = told(capsys)
    assert f"A dry run: {would}" in out
    assert "Nothing was written." in out
    assert err == ""
    assert project.run("state", *args, "--dry-run", "--json") == 0
    found = one(told(capsys)[0])
    assert (found["written"], found["backup"], found["undo"]) == (False, None, None)
    assert (project.path / "state/research.json").read_bytes() == before


def test_json_is_one_object_each(project, capsys):
    serial = project.serial()
    [db] = [record for a, record in project.store().read().sandboxes.items() if a == "db"]
    assert project.run("state", "mv", "db", "base", "--json") == 0
    assert one(told(capsys)[0]) == {
        "type": "state_mv",
        "written": True,
        "serial": serial + 1,
        "backup": serial,
        "undo": UNDO.format(serial),
        "moved": [{"from": "db", "to": "base", "backend": "local", "sandbox_id": db.sandbox_id}],
    }
    assert project.run("state", "rm", "base", "--json") == 0
    assert one(told(capsys)[0])["removed"] == [
        {"address": "base", "backend": "local", "sandbox_id": db.sandbox_id}
    ]
    assert project.run("--json", "state", "pull", "-o", "now.json") == 0
    assert one(told(capsys)[0]) == {"type": "state_pull", "serial": serial + 2, "file": "now.json"}
    assert project.run("--json", "state", "push", "now.json") == 0
    pushed = one(told(capsys)[0])
    assert (pushed["type"], pushed["written"], pushed["serial"]) == ("state_push", False, serial + 2)
    assert project.run("--json", "state", "pull") == 0
    assert one(told(capsys)[0]) == json.loads((project.path / "state/research.json").read_text())


def test_history_lists_the_versions_and_shows_one(project, capsys):
    serial = project.serial()
    project.run("state", "rm", "db")
    capsys.readouterr()
    assert project.run("state", "history") == 0
    header, *rows = told(capsys)[0].splitlines()
    assert header.split() == ["SERIAL", "WRITTEN", "SANDBOXES", "SIZE", "NOTE"]
    assert [row.split()[0] for row in rows] == [str(n) for n in range(serial + 1, 0, -1)]
    assert rows[0].endswith("current")
    assert "current" not in "".join(rows[1:])
    assert project.run("state", "history", "--json") == 0
    found = one(told(capsys)[0])
    assert found["stack"] == "research"
    assert [(v["serial"], v["sandboxes"], v["current"], v["damage"]) for v in found["versions"]][:2] == [
        (serial + 1, 2, True, None),
        (serial, 3, False, None),
    ]
    assert project.run("state", "history", str(serial)) == 0
    assert "3 sandboxes recorded." in told(capsys)[0]
    assert project.run("state", "history", "99") == 1
    assert f"there is: {serial + 1}, {serial}" in told(capsys)[1]


def test_history_is_there_when_the_state_is_damaged(project, capsys):
    project.run("state", "mv", "db", "base")
    capsys.readouterr()
    (project.path / "state/research.json").write_text("{")
    (project.path / "state/research.history/1.json").write_text("\x1b[2J")
    assert project.run("state", "history") == 0
    out, err = told(capsys)
    assert "damaged: " in out
    assert "\x1b" not in out + err
    assert "itself cannot be read; `reconciler doctor` says why" in err
    assert project.run("state", "pull", "--serial", "2") == 0
    assert set(json.loads(told(capsys)[0])["sandboxes"]) == {"db", "researcher[0]", "researcher[1]"}


def test_pull_prints_the_file_as_it_is(project, capsys):
    assert project.run("state", "pull") == 0
    assert told(capsys) == ((project.path / "state/research.json").read_text(), "")


def test_what_is_pulled_survives_an_encoding_that_cannot_hold_it(project, monkeypatch):
    store = project.store()
    with store.lock("test") as lease:
        store.write(lease, store.read().with_record(a_record("db", error="“ü\x9b”")))
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="latin-1"))
    assert project.run("state", "pull") == 0
    assert raw.getvalue().isascii()
    assert json.loads(raw.getvalue())["sandboxes"]["db"]["error"] == "“ü\x9b”"


@pytest.mark.parametrize("there", [False, True], ids=["a new file", "a file that others may read"])
def test_a_pulled_file_is_for_nobody_else(project, there):
    target = project.path / "old.json"
    if there:
        target.write_text("before")
        target.chmod(0o644)
    assert project.run("state", "pull", "-o", "old.json") == 0
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert target.read_bytes() == (project.path / "state/research.json").read_bytes()
    assert [p.name for p in project.path.iterdir() if p.name.endswith(".tmp")] == []


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing/old.json", "cannot write missing/old.json: No such file or directory"),
        (".", ". is no regular file"),
        ("/dev/null", "/dev/null is no regular file"),
    ],
)
def test_a_file_that_cannot_be_written_is_told(project, capsys, name, says):
    assert project.run("state", "pull", "-o", name) == 1
    assert says in told(capsys)[1]


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("mv", "db"), 64, "Missing argument 'TARGET'"),
        (("mv", "dbx", "base"), 1, "nothing is recorded as dbx"),
        (("mv", "db", "researcher[0]"), 7, "researcher[0] is recorded already"),
        (("mv", "researcher", "worker[0]"), 1, "researcher is a group of 2"),
        (("mv", "db", "base\x1b]0;x\x07"), 1, "can be no address"),
        (("mv", "db\x9b2J", "base"), 1, "can be no address"),
        (("mv", "db", "b\u202ease"), 1, "can be no address"),
        (("rm",), 64, "Missing argument 'ADDRESS...'"),
        (("rm", "db", "dbx"), 1, "nothing is recorded as dbx"),
        (("rm", "\x1b[2J\u202e*"), 1, "nothing is recorded as \\x1b[2J\\u202e*"),
        (("pull", "--serial", "99"), 1, "no version of serial 99"),
        (("pull", "--serial", "-1"), 64, "--serial"),
        (("push", "nothing.json"), 1, "cannot read nothing.json: No such file or directory"),
        (("push", "state"), 1, "state is no file"),
        (("push", "sandboxes.yaml"), 1, "sandboxes.yaml is no state: line 1"),
        (("rollback", "99", "--auto-approve"), 1, "no version of serial 99"),
        (("rollback", "1"), 1, "nobody is here to approve it, so nothing was done"),
        (("migrate",), 64, "Missing option '--from'"),
        (("migrate", "--from", "nothing.yaml"), 3, "nothing.yaml"),
        (("migrate", "--from", "sandboxes.yaml"), 1, "is where the state is to go, and where it is to come from"),
        (("history", "old"), 64, "'old' is not a valid integer"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_told_and_changes_nothing(project, capsys, args, code, says):
    before = (project.path / "state/research.json").read_bytes()
    assert project.run("state", *args) == code
    out, err = told(capsys)
    assert says in err
    assert out == ""
    assert not {"\x1b", "\x9b", "\u202e", "\x07"} & set(err)
    assert (project.path / "state/research.json").read_bytes() == before


def test_a_hostile_address_of_a_pushed_state_reaches_no_terminal(project, capsys):
    document = json.loads((project.path / "state/research.json").read_text())
    document["sandboxes"]["x\x1b[2J\u202e"] = {**document["sandboxes"].pop("db"), "sandbox_id": "\x1b[31mid"}
    (project.path / "old.json").write_text(json.dumps(document))
    for args in (("push", "old.json"), ("history",), ("list",), ("mv", "x\x1b[2J\u202e", "y"), ("rm", "y")):
        assert project.run("state", *args) == 0, args
    out, err = told(capsys)
    assert not {"\x1b", "\u202e"} & set(out + err)
    assert "x\\x1b[2J\\u202e → y" in out


def test_push_reads_standard_input(project, capsys, monkeypatch):
    document = json.loads((project.path / "state/research.json").read_text())
    document["sandboxes"].pop("db")
    stdin = io.TextIOWrapper(io.BytesIO(json.dumps(document).encode()))
    monkeypatch.setattr("sys.stdin", stdin)
    assert project.run("state", "push", "-") == 0
    assert told(capsys)[0].startswith("- db\n")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert project.run("state", "push", "-") == 1
    assert "standard input is empty" in told(capsys)[1]


def test_quiet_leaves_the_answer_alone(project, capsys):
    assert project.run("-q", "state", "mv", "db", "base") == 0
    out, err = told(capsys)
    assert "1 record moved" in out
    assert err == ""


class Typed(io.StringIO):
    """A terminal at which somebody types."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "code"), [("yes\n", 0), ("y\n", 1), ("", 1)], ids=["yes", "y", "nothing"])
def test_a_rollback_shows_what_it_does_and_asks(project, capsys, monkeypatch, answer, code):
    project.run("state", "rm", "db")
    before = project.store().read()
    err = Typed()
    monkeypatch.setattr("sys.stdin", Typed(answer))
    monkeypatch.setattr("sys.stderr", err)
    assert project.run("state", "rollback", str(before.serial - 1)) == code
    assert "+ db\n~ researcher[0]\n~ researcher[1]\n\nMake serial " in err.getvalue()
    assert "No sandbox is touched. Only `yes` is a yes." in " ".join(err.getvalue().split())
    assert ("db" in project.addresses()) is (code == 0)
    if code:
        assert "Not approved; nothing was changed." in err.getvalue()
        assert project.store().read() == before


def migrated(project, text="state: {store: file, path: moved/}\n") -> None:
    """The configuration as somebody changes it, and the one from before beside it."""
    old = (project.path / "sandboxes.yaml").read_text()
    (project.path / "old.yaml").write_text(old)
    (project.path / "sandboxes.yaml").write_text(old + text)


def test_a_migration_says_what_moved_and_the_old_configuration_is_refused(project, capsys):
    live, serial = project.live(), project.serial()
    migrated(project)
    assert project.run("state", "migrate", "--from", "old.yaml", "--dry-run") == 0
    assert "A dry run: it would move 3 records of serial" in told(capsys)[0]
    assert project.run("state", "migrate", "--from", "old.yaml") == 0
    out, err = told(capsys)
    assert out.startswith("3 records moved from ")
    assert "moved/research.json" in out
    assert "No sandbox was touched." in out
    assert "Commit the configuration" in err
    assert project.run("plan", "--detailed-exitcode") == 0
    for work in (
        ("plan",),
        ("apply", "--auto-approve"),
        ("status",),
        ("output",),
        ("show",),
        ("state", "rm", "db"),
    ):
        assert project.run("-f", "old.yaml", *work) == 7, work
        assert "moved to " in told(capsys)[1]
    assert project.live() == live
    assert project.run("-f", "old.yaml", "state", "pull") == 0
    assert json.loads(told(capsys)[0])["migrated"]["to"] == str(project.path / "moved/research.json")
    assert project.run("state", "migrate", "--from", "old.yaml", "--json") == 0
    again = one(told(capsys)[0])
    assert (again["type"], again["moved"], again["written"]) == ("state_migrate", False, True)
    assert again["serial"] == serial + 1


def test_a_file_with_the_block_alone_says_where_it_comes_from(project, capsys, monkeypatch):
    monkeypatch.setenv("WHERE", "state")
    migrated(project)
    (project.path / "old.yaml").write_text('state: {store: file, path: "${env.WHERE}/"}\n')
    assert project.run("state", "migrate", "--from", "old.yaml") == 0
    assert project.run("plan", "--detailed-exitcode") == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("other: 1\n", "`state` is missing"),
        ("state: {store: fil}\n", "`store` must be"),
        ("stack: other\nstate: {store: file}\n", "this is about stack `other`, not `research`"),
    ],
    ids=["nothing of it", "a store that there is not", "another stack"],
)
def test_a_file_that_does_not_say_it_is_refused(project, capsys, text, says):
    migrated(project)
    (project.path / "old.yaml").write_text(text)
    assert project.run("state", "migrate", "--from", "old.yaml") == 3
    assert says in told(capsys)[1]
    assert not (project.path / "moved").exists()
