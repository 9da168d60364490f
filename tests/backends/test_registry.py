"""From `backends:` in the YAML to an object, or to an error that says what to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import MappingProxyType

import pytest

from reconciler.backends.guard import Guarded
from reconciler.backends.memory import MemoryBackend
from reconciler.backends.process import ProcessBackend
from reconciler.backends.registry import backend_types, open_backend
from reconciler.errors import ConfigError, Unavailable
from reconciler.model.desired import BackendConfig
from reconciler.model.position import Position

HERE = "tests.backends"
ROOT = Path(__file__).parents[2]


def config(kind: str, **options: object) -> BackendConfig:
    return BackendConfig(
        name="local", type=kind, options=MappingProxyType(options), position=Position("sandboxes.yaml", 4, 3)
    )


def test_our_own_types_open_with_their_options(tmp_path: Path) -> None:
    process = open_backend(config("process", root=str(tmp_path / "state"), isolation="none"))
    assert isinstance(process, ProcessBackend)
    assert process.root == str(tmp_path / "state")
    assert isinstance(open_backend(config("memory", world="w", create_seconds=0.5)), MemoryBackend)


def test_two_openings_of_one_world_see_the_same() -> None:
    first, second = (open_backend(config("memory", world="shared")) for _ in range(2))
    info = first.create(None, "a")
    assert second.discover("a") == info
    second.destroy(info)


@pytest.mark.parametrize("name", ["SeedBackend", "DuckBackend"])
def test_a_class_of_the_seeds_contract_works_by_dotted_path(name: str) -> None:
    backend = open_backend(config(f"{HERE}.seed_contract:{name}", engine=name))
    assert isinstance(backend, Guarded)
    assert not backend.capabilities.owns
    info = backend.create("t-1", "a")
    assert backend.list_running() == [info]
    backend.destroy(info)
    assert backend.observe() == []


@pytest.mark.parametrize(
    ("wrong", "message", "hint"),
    [
        pytest.param(
            config("proces"), "unknown type 'proces'", "did you mean 'process'?", id="a typing error"
        ),
        pytest.param(config("zzz"), "unknown type 'zzz'", "memory, process", id="a type nobody knows"),
        pytest.param(
            config("no.such.package:Backend"),
            "No module named 'no'",
            "no.such.package",
            id="a missing package",
        ),
        pytest.param(
            config(f"{HERE}.seed_contract:Nothing"), "Nothing", "check the class name", id="a missing class"
        ),
        pytest.param(
            config(f"{HERE}.seed_contract:HalfBackend"),
            "lacks is_alive, discover, list_running",
            "create, destroy, is_alive, discover, list_running",
            id="a class without the verbs",
        ),
        pytest.param(
            config(f"{HERE}.seed_contract:SeedBase"),
            "lacks create",
            "has the methods",
            id="an abstract class",
        ),
        pytest.param(config(f"{HERE}.seed_contract:RUNNING"), "is no class", "name a class", id="no class"),
        pytest.param(
            config("process", rooot="/x"), "no option 'rooot'", "did you mean 'root'?", id="a misspelt option"
        ),
        pytest.param(
            config("memory", zzz=1),
            "no option 'zzz'",
            "its options are world, path, create_seconds, ready_seconds",
            id="an option nobody knows",
        ),
        pytest.param(
            config("memory", sleep=1), "no option 'sleep'", "its options are", id="one for programs only"
        ),
        pytest.param(
            config("memory", create_seconds="soon"), "cannot be made", "options", id="a wrong value"
        ),
        pytest.param(
            config("process", isolation="jail"), "jail", "auto, bubblewrap or none", id="a wrong word"
        ),
        pytest.param(
            config(f"{HERE}.test_registry:NeedsUrl"),
            "needs the option 'url'",
            "its options are url",
            id="a missing one",
        ),
    ],
)
def test_what_is_wrong_is_named_with_the_way_out(wrong: BackendConfig, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        open_backend(wrong)
    assert message in raised.value.message
    assert hint in raised.value.hint


def test_the_error_knows_its_place_in_the_yaml() -> None:
    with pytest.raises(ConfigError) as raised:
        open_backend(config("zzz"))
    [diagnostic] = raised.value.diagnostics
    assert str(diagnostic.position) == "sandboxes.yaml:4:3"  # type: ignore[attr-defined]


def test_a_missing_sdk_of_ours_names_the_extra(tmp_path: Path) -> None:
    """With a module in the place of `docker`'s that needs at once what is not there."""
    (tmp_path / "needs_sdk.py").write_text("import an_sdk_nobody_installed\n")
    script = (
        "from reconciler.backends import registry\n"
        "from reconciler.model.desired import BackendConfig\n"
        "registry._OURS = {**registry._OURS, 'docker': 'needs_sdk:Backend'}\n"
        "try:\n"
        "    registry.open_backend(BackendConfig(name='local', type='docker'))\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, '|', error, '|', error.hint)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{script}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout == (
        "ConfigError | backend 'local' (type 'docker') cannot be imported: No module named 'an_sdk_nobody_installed'"
        " | pip install 'sandbox-reconciler[docker]'\n"
    )


def test_an_engine_that_is_down_while_opening_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="engine down"):
        open_backend(config(f"{HERE}.test_registry:Down"))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        pytest.param(f"{HERE}.test_registry:factory", "which is no class", id="a function"),
        pytest.param(f"{HERE}.test_registry:CALLED.append", "which is no class", id="a bound method"),
        pytest.param(f"{HERE}.test_registry:Command", "lacks create", id="a class of something else"),
    ],
)
def test_nothing_but_a_backend_class_is_ever_called(kind: str, message: str) -> None:
    CALLED.clear()
    with pytest.raises(ConfigError, match=message) as raised:
        open_backend(config(kind, command="rm -rf /"))
    assert CALLED == []
    [diagnostic] = raised.value.diagnostics
    assert str(diagnostic.position) == "sandboxes.yaml:4:3"  # type: ignore[attr-defined]


WHAT_IS_IMPORTED = """
import sys
from reconciler.backends.registry import open_backend
from reconciler.model.desired import BackendConfig
open_backend(BackendConfig(name="m", type="memory"))
print([m for m in ("importlib.metadata", "reconciler.backends.process", "httpx") if m in sys.modules])
"""


def test_our_own_types_are_known_without_a_scan_and_listed() -> None:
    assert {"memory", "process"} <= set(backend_types())
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{WHAT_IS_IMPORTED}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout == "[]\n"


class NeedsUrl:
    def __init__(self, url: str) -> None: ...

    def create(self, thread_id, sandbox_id, extra_mounts=None): ...
    def destroy(self, info): ...
    def is_alive(self, info): ...
    def discover(self, sandbox_id): ...
    def list_running(self): ...


class Down(NeedsUrl):
    def __init__(self) -> None:
        raise ConnectionRefusedError("engine down")


CALLED: list[str] = []


class Command:
    def __init__(self, command: str) -> None:
        CALLED.append(command)


def factory(command: str) -> NeedsUrl:
    CALLED.append(command)
    return NeedsUrl(command)
