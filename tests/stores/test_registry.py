"""Opening a store by name: our own, a third party's, and what is answered to a slip of the pen."""

from __future__ import annotations

import textwrap
import tomllib
from pathlib import Path

import pytest

from reconciler.errors import ConfigError
from reconciler.model.desired import StoreConfig
from reconciler.stores import registry
from reconciler.stores.file import FileStore
from reconciler.stores.memory import MemoryStore
from reconciler.testing.store_conformance import a_state


def config(kind: str, **options: object) -> StoreConfig:
    return StoreConfig(type=kind, options=options)


def opened(name: str, directory: Path, **options: object) -> object:
    return registry.open_store(config(name, **options), stack="research", directory=directory)


def test_the_default_is_a_file_store_below_the_configuration(tmp_path: Path) -> None:
    store = registry.open_store(StoreConfig(), stack="research", directory=tmp_path)
    assert isinstance(store, FileStore)
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("path", "lands"),
    [("state/", "conf/state"), ("../elsewhere", "elsewhere"), ("{tmp}/absolute", "absolute")],
    ids=["a relative path", "a path upwards", "an absolute path"],
)
def test_a_path_is_relative_to_the_configuration(tmp_path: Path, path: str, lands: str) -> None:
    (tmp_path / "conf").mkdir()
    store = opened("file", tmp_path / "conf", path=path.format(tmp=tmp_path))
    assert isinstance(store, FileStore)
    with store.lock("apply") as lease:
        store.write(lease, a_state())
    assert (tmp_path / lands / "research.json").is_file()


def test_the_memory_store_takes_a_key(tmp_path: Path) -> None:
    store = opened("memory", tmp_path, key="k")
    assert isinstance(store, MemoryStore)
    assert store.secret_key(create=False) is not None


@pytest.mark.parametrize(
    ("asked", "says", "hint"),
    [
        (config("fil"), "there is no store 'fil'", "did you mean 'file'?"),
        (config("s3"), "there is no store 's3'", "choose one of: file, http, kubernetes, memory, postgres"),
        (config("http"), "store 'http' does not take these options", ""),
        (
            config("kubernetes", name="no.dots"),
            "`name: no.dots` cannot be the name of a Secret",
            "use at most 63 of a-z, 0-9 and -, no dash first or last",
        ),
        (config("file", pth="x"), "store 'file' has no option 'pth'", "did you mean 'path'?"),
        (config("file", environ={}), "store 'file' has no option 'environ'", "choose one of: path"),
        (config("file", path=7), "store 'file' does not take these options", ""),
    ],
    ids=lambda value: value.type if isinstance(value, StoreConfig) else None,
)
def test_it_refuses(tmp_path: Path, asked: StoreConfig, says: str, hint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        registry.open_store(asked, stack="research", directory=tmp_path)
    assert says in refused.value.message
    assert refused.value.hint == hint


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package as pip installs one, with entry points for stores."""
    home = tmp_path / "site"
    info = home / "third_party_stores-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party-stores\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        textwrap.dedent("""
        [reconciler.stores]
        keyed = third_party_stores:Keyed
        broken = third_party_stores:Missing
        object = third_party_stores:NoStore
        function = third_party_stores:function
        file = third_party_stores:NoStore
        """)
    )
    (home / "third_party_stores.py").write_text(
        textwrap.dedent("""
        from reconciler.stores.memory import MemoryStore

        class Keyed(MemoryStore):
            options = None

            def __init__(self, stack, *, bucket, region="eu"):
                super().__init__(f"{stack}-{bucket}-{region}")

        class NoStore:
            def __init__(self, stack): ...

        def function(stack): ...
        """)
    )
    monkeypatch.syspath_prepend(str(home))
    return tmp_path


def test_a_third_partys_store_is_found_by_its_entry_point(third_party: Path) -> None:
    assert registry.store_types() == (
        "broken",
        "file",
        "function",
        "http",
        "keyed",
        "kubernetes",
        "memory",
        "object",
        "postgres",
    )
    store = opened("keyed", third_party, bucket="b")
    assert isinstance(store, MemoryStore)
    assert store.describe() == "memory:research-b-eu"


def test_a_third_party_never_replaces_one_of_ours(third_party: Path) -> None:
    assert isinstance(opened("file", third_party), FileStore)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (config("keyed", bucket="b", regoin="us"), "has no option 'regoin'"),
        (config("keyed"), "does not take these options"),
        (config("broken"), "cannot be loaded: AttributeError"),
        (config("object"), "NoStore is no store"),
        (config("function"), "is no class"),
    ],
    ids=["an option it lacks", "an option it needs", "a name it lacks", "no store", "no class"],
)
def test_a_third_partys_mistake_is_told(third_party: Path, asked: StoreConfig, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        registry.open_store(asked, stack="research", directory=third_party)


def test_the_package_says_the_same_as_the_table() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert tomllib.loads(text)["project"]["entry-points"][registry.GROUP] == registry._OURS
