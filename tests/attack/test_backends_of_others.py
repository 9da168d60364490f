"""A third party's backend may raise anything, answer anything and print anything: the run says whose fault it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reconciler.backends.guard import Guarded
from reconciler.backends.registry import open_backend
from reconciler.cli.main import run
from reconciler.errors import BackendError, ConfigError, Permanent, ReconcilerError
from reconciler.model.desired import BackendConfig, Readiness, SandboxSpec
from reconciler.model.drift import Cause, Provenance
from reconciler.model.observed import SandboxInfo
from tests.attack.hostile import LIES, RAISES, WORDS, Hostile
from tests.attack.places import HOSTILE, a_state, check_harmless, folder

INFO = SandboxInfo(sandbox_id="a", sandbox_url="u")
ASKS = {
    "create": lambda b: b.create(None, "a"),
    "destroy": lambda b: b.destroy(INFO),
    "is_alive": lambda b: b.is_alive(INFO),
    "discover": lambda b: b.discover("a"),
    "observe": lambda b: b.observe(),
    "look": lambda b: b.look("a"),
    "place": lambda b: b.place(),
    "notes": lambda b: b.notes(),
    "check": lambda b: b.check(),
    "usage": lambda b: b.usage(INFO),
    "request_headers": lambda b: b.request_headers(INFO),
    "probe": lambda b: b.probe(INFO, Readiness(), 1.0),
    "logs": lambda b: list(b.logs(INFO)),
    "exec": lambda b: b.exec(INFO, ["x"]),
    "listen": lambda b: b.listen(lambda _: None).close(),
    "provenance": lambda b: b.provenance(["a"]),
    "close": lambda b: b.close(),
}
MAY_BE_NOTHING = ("destroy", "discover", "look", "usage", "probe", "close")
TAKES_WORDS = ("place",)


def opened(does: str, verb: str = "observe") -> Guarded:
    config = BackendConfig(
        name="h", type="tests.attack.hostile:Hostile", options={"does": does, "verb": verb}
    )
    backend = open_backend(config)
    assert isinstance(backend, Guarded)
    return backend


@pytest.mark.parametrize("verb", ASKS)
@pytest.mark.parametrize("does", [name for name in RAISES if name != "KeyboardInterrupt"])
def test_what_a_verb_raises_is_an_error_that_names_it(verb: str, does: str) -> None:
    with pytest.raises(BackendError) as raised:
        ASKS[verb](opened(does, verb))
    assert f"Hostile.{verb}: " in raised.value.message
    assert len(raised.value.message) < 3000


@pytest.mark.parametrize("verb", [verb for verb in ASKS if verb not in ("destroy", "close")])
@pytest.mark.parametrize("does", ["nothing", "a number", "a text, which is taken apart like a list", "a list of anything"])  # fmt: skip
def test_an_answer_of_the_wrong_kind_is_an_error_that_names_the_verb(verb: str, does: str) -> None:
    if (does == "nothing" and verb in MAY_BE_NOTHING) or (does.startswith("a text") and verb in TAKES_WORDS):
        return
    with pytest.raises(Permanent, match=rf"^Hostile\.{verb}: .* belongs?$") as raised:
        ASKS[verb](opened(does, verb))
    assert "bug in the backend" in raised.value.hint


@pytest.mark.parametrize("does", LIES)
def test_a_listing_with_nonsense_in_it_is_no_listing(does: str) -> None:
    with pytest.raises(Permanent, match=r"^Hostile\.observe: ") as raised:
        opened(does).observe()
    assert len(raised.value.message) < 300


def test_an_honest_backend_passes_unchanged() -> None:
    honest, guarded = Hostile(), Guarded(Hostile())
    for verb, ask in ASKS.items():
        if verb != "logs":
            assert ask(guarded) == ask(honest), verb
    assert guarded.create(None, "b", spec=SandboxSpec()).sandbox_id == "b"


class Teller(Hostile):
    """Tells whatever it is made to, and goes on after it was closed."""

    def listen(self, tell: Any) -> Any:
        self.tell = tell
        return self

    def provenance(self, sandbox_ids: Any) -> Any:
        return self.origin


def test_what_it_tells_is_a_name_or_any_of_them_and_nothing_once_closed() -> None:
    theirs, told = Teller(), list[str]()
    subscription = Guarded(theirs).listen(told.append)
    for said in (("a",), (), (None,), (b"a", 7)):
        theirs.tell(*said)
    subscription.close()
    theirs.tell("a")
    assert told == ["a", "", "", ""]


@pytest.mark.parametrize(
    "origin",
    [
        pytest.param({7: Provenance(cause=Cause.KILLED)}, id="no name"),
        pytest.param({"a": "killed"}, id="a word"),
        pytest.param({"a": Provenance(cause="killed")}, id="a cause that is none"),  # type: ignore[arg-type]
        pytest.param({"a": Provenance(cause=Cause.KILLED, detail=None)}, id="no text"),  # type: ignore[arg-type]
        pytest.param({"a": Provenance(cause=Cause.KILLED, at=float("nan"))}, id="no time"),
        pytest.param({"a": Provenance(cause=Cause.KILLED, at=1e300)}, id="a time beyond all calendars"),
    ],
)
def test_a_provenance_that_makes_no_sense_is_none(origin: object) -> None:
    theirs = Teller()
    theirs.origin = origin
    with pytest.raises(Permanent, match=r"^Teller\.provenance: "):
        Guarded(theirs).provenance(["a"])


def test_ctrl_c_in_the_main_thread_stays_what_it_is() -> None:
    with pytest.raises(KeyboardInterrupt):
        opened("KeyboardInterrupt").observe()


@pytest.mark.parametrize("kind", ["Unmakeable", "no_such_module_of_ours"])
def test_one_that_ends_the_interpreter_when_it_is_made_is_told_as_wrong(kind: str) -> None:
    with pytest.raises((ConfigError, ReconcilerError)):
        open_backend(BackendConfig(name="h", type=f"tests.attack.hostile:{kind}"))


@pytest.mark.parametrize("does", [*RAISES, *LIES])
def test_a_plan_on_it_ends_with_an_error_and_never_with_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], does: str
) -> None:
    folder(tmp_path, HOSTILE % (json.dumps(does), "observe"), state=a_state())
    assert run(["-C", str(tmp_path), "plan"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    check_harmless(told.err)
    assert "cannot see everything, so nothing is planned" in told.err


@pytest.mark.parametrize("does", WORDS)
@pytest.mark.parametrize("command", [["plan"], ["plan", "--format", "markdown"], ["status"], ["why", "box"]], ids=" ".join)  # fmt: skip
def test_whatever_it_says_of_its_objects_is_shown_harmlessly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str], does: str
) -> None:
    folder(tmp_path, HOSTILE % (json.dumps(does), "observe"), state=a_state())
    assert run(["-C", str(tmp_path), *command]) == 0
    told = capsys.readouterr()
    check_harmless(told.out + told.err)


def test_what_it_prints_is_no_part_of_the_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder(tmp_path, HOSTILE % ("''", "observe"), state=a_state())
    assert run(["-C", str(tmp_path), "plan", "--json"]) == 0
    told = capsys.readouterr()
    assert all(isinstance(json.loads(line), dict) for line in told.out.splitlines())
    assert "printed" in told.err
    check_harmless(told.err)
