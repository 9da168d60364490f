"""What a state is in a cluster: a head that is replaced, parts that never change, and nothing that is taken for a sandbox."""

from __future__ import annotations

import base64
import gzip
import json
import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from reconciler.backends.kubernetes import KubernetesBackend
from reconciler.core.fold import fold_all
from reconciler.errors import ConfigError, StateCorrupt, StateTooNew, StoreError
from reconciler.model.desired import Address
from reconciler.model.state import State
from reconciler.stores.kubernetes import KubernetesStore, index, journal
from reconciler.stores.sealing import Sealer
from reconciler.testing.store_conformance import a_record, a_state, created
from tests.docs.pages import ROOT
from tests.stores.clusters import NAME, a_store
from tests.stores.places import a_key, a_sealer
from tests.support.kubernetes.admission import Rule
from tests.support.kubernetes.cluster import Cluster, running
from tests.support.kubernetes.hostile import HTML, refusal

STORE = f"state.sandbox-reconciler/store={NAME}"


class Home:
    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.kubeconfig = cluster.kubeconfig(folder / "kubeconfig")

    def open(self, **options: Any) -> KubernetesStore:
        return a_store(self.kubeconfig, **options)

    def secrets(self, part: str = "") -> dict[str, Any]:
        """By name, those of one kind of part or all."""
        with self.cluster.storage.lock:
            there = self.cluster.storage.list(next(r for r in self.cluster.known() if r.kind == "Secret"))
        return {
            found["metadata"]["name"]: found
            for found in there
            if not part or found["metadata"].get("labels", {}).get("state.sandbox-reconciler/part") == part
        }

    def remove(self, name: str) -> None:
        with self.cluster.storage.lock:
            self.cluster.storage.remove(("secrets", "default", name))

    def asked(self, since: int = 0) -> list[str]:
        return [f"{r.method} {r.path.rpartition('/')[2]}" for r in self.cluster.log[since:]]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with running() as cluster:
        yield Home(cluster, tmp_path)


def large(kib: int, *, serial: int = 0) -> State:
    """A state that no packing makes smaller than so many KiB."""
    draw = random.Random(kib)
    noise = {f"environment.N{at}": base64.b85encode(draw.randbytes(1024)).decode() for at in range(kib)}
    record = replace(a_record("a"), spec=noise)
    return replace(a_state(serial=serial), sandboxes={Address("a"): record})


def test_kubectl_finds_all_of_it_and_reads_the_state(home: Home) -> None:
    store = home.open()
    with store.lock("apply") as lease:
        store.write(lease, store.write(lease, a_state("a")))
        store.append(lease, created("b"))
    store.secret_key(create=True)
    there = home.secrets()
    assert {found["metadata"]["labels"]["state.sandbox-reconciler/store"] for found in there.values()} == {
        NAME
    }
    assert {found["type"] for found in there.values()} == {"sandbox-reconciler/state"}
    assert sorted(home.secrets("snapshot")) == sorted(set(there) - {NAME, f"{NAME}.key"})
    [current] = [
        found
        for found in home.secrets("snapshot").values()
        if found["metadata"]["labels"]["state.sandbox-reconciler/serial"] == "2"
    ]
    text = gzip.decompress(base64.b64decode(current["data"]["part"]))
    assert json.loads(text)["serial"] == 2
    assert current["immutable"] is True


def test_a_read_is_two_questions_and_an_append_is_two(home: Home) -> None:
    store = home.open()
    with store.lock("apply") as lease:
        store.write(lease, a_state("a"))
        at = len(home.cluster.log)
        store.append(lease, created("b"))
        store.append(lease, created("c"))
        assert home.asked(at) == [f"GET {NAME}", f"PUT {NAME}"] * 2
        at = len(home.cluster.log)
        store.read()
        [part] = home.secrets("snapshot")
        assert home.asked(at) == [f"GET {NAME}", f"GET {part}"]


@pytest.mark.parametrize("sealer", [None, a_sealer(a_key())], ids=["in clear", "encrypted"])
def test_a_state_of_several_mebibytes_is_split_and_comes_back_whole(
    home: Home, sealer: Sealer | None
) -> None:
    options = {} if sealer is None else {"sealer": sealer}
    store = home.open(versions=1, **options)
    with store.lock("apply") as lease:
        first = store.write(lease, large(3000))
        parts = home.secrets("snapshot")
        assert len(parts) >= 4
        assert home.open(**options).read() == first
        second = store.write(lease, large(1200, serial=1))
        assert store.version(1) == first
        store.write(lease, replace(a_state("a"), serial=2))
        assert store.version(2) == second
    assert set(parts).isdisjoint(home.secrets("snapshot")), "what is kept no more is removed"
    assert [version.serial for version in store.history()] == [3, 2]


def test_a_long_journal_leaves_the_head_and_each_append_stays_small(home: Home) -> None:
    store = home.open()
    draw = random.Random(1)
    entries = [replace(created(f"s{at}")[2], error=draw.randbytes(600).hex()) for at in range(400)]
    with store.lock("apply") as lease:
        base = store.write(lease, a_state("old"))
        for at in range(0, len(entries), 4):
            store.append(lease, entries[at : at + 4])
        assert home.open().read() == fold_all(base, entries)
        segments = home.secrets("journal")
        assert len(segments) >= 3
        sent = [
            len(r.body) for r in home.cluster.log if r.method == "PUT" and r.path.endswith(f"secrets/{NAME}")
        ]
        assert max(sent) < 2 * journal.SEGMENT
        written = store.write(lease, fold_all(base, entries))
    assert home.secrets("journal") == {}
    assert store.read() == written


def test_one_append_may_be_larger_than_a_secret(home: Home) -> None:
    store = home.open()
    draw = random.Random(2)
    entries = [replace(created(f"s{at}")[2], error=draw.randbytes(1500).hex()) for at in range(1200)]
    with store.lock("apply") as lease:
        base = store.write(lease, a_state())
        store.append(lease, entries)
        store.append(lease, created("z"))
    assert len(home.secrets("journal")) >= 2
    assert store.read() == fold_all(base, [*entries, *created("z")])


def test_the_next_holder_seals_the_journal_that_another_left_in_clear(home: Home) -> None:
    store = home.open()
    lease = store.lock("apply")
    base = store.write(lease, a_state())
    for at in range(3):
        store.append(lease, created(f"s{at}"))
    sealed = home.open(sealer=a_sealer(a_key()))
    sealed.force_unlock(lease.info.id)
    with sealed.lock("apply") as second:
        sealed.append(second, created("z"))
    tail = index.head_of(home.secrets()[NAME], place="", stack="research").tail
    assert b'"address"' not in index.unpack(tail, place="")
    expected = [*created("s0"), *created("s1"), *created("s2"), *created("z")]
    assert sealed.read() == fold_all(base, expected)


def test_what_a_broken_run_left_is_swept_away_but_nothing_of_a_later_holder(home: Home) -> None:
    store = home.open()
    with store.lock("apply") as lease:
        base = store.write(lease, a_state("a"))
        left = {}
        for name, fence in (("old", 0), ("same", 1), ("later", 2)):
            labels = {
                **index.marks(NAME, "research", "snapshot"),
                "state.sandbox-reconciler/fence": str(fence),
            }
            home.cluster.make("v1", "Secret", f"{NAME}.{name}", metadata={"labels": labels})
            left[name] = f"{NAME}.{name}"
        other = {
            **index.marks("another-store", "research", "snapshot"),
            "state.sandbox-reconciler/fence": "0",
        }
        home.cluster.make("v1", "Secret", "another-store.1", metadata={"labels": other})
        home.cluster.make("v1", "Secret", f"{NAME}.mine", metadata={"labels": {"app": "mine"}})
        fresh = home.open()  # as another process under the same lease: nothing is swept yet
        fresh.write(lease, base)
    assert left["later"] in home.secrets()
    assert {left["old"], left["same"]}.isdisjoint(home.secrets())
    assert {"another-store.1", f"{NAME}.mine", NAME} <= set(home.secrets())


def test_a_reader_beside_a_writer_sees_one_moment(home: Home) -> None:
    """Between the head and its parts, the writer replaces both and removes what it replaced."""
    store = home.open(versions=0)
    with store.lock("apply") as lease:
        first = store.write(lease, a_state("a"))
        times = 0

        def meanwhile(handler: Any, request: Any) -> bool:
            nonlocal times
            if request.method != "GET" or ".1." not in request.path or times:
                return False
            times += 1
            store.write(lease, first)
            return False

        home.cluster.server.misbehaviours.append(meanwhile)
        found = home.open().read()
    assert times == 1
    assert found is not None
    assert found.serial == 2


def test_a_part_that_is_missing_is_damage_and_no_empty_state(home: Home) -> None:
    store = home.open()
    with store.lock("apply") as lease:
        base = store.write(lease, store.write(lease, a_state("a")))
        [old] = [name for name in home.secrets("snapshot") if name.startswith(f"{NAME}.1.")]
        home.remove(old)
        with pytest.raises(StateCorrupt, match=f"the Secret {old}, .* is missing"):
            store.version(1)
        [name] = home.secrets("snapshot")
        home.remove(name)
        for look in (store.read, home.open().read, lambda: home.open().append(lease, created("b"))):
            with pytest.raises(StateCorrupt, match="is missing"):
                look()
        with pytest.raises(StateCorrupt):
            home.open().write(lease, base)


def test_a_head_that_is_missing_is_no_empty_state(home: Home) -> None:
    store = home.open()
    with store.lock("apply") as lease:
        store.write(lease, a_state("a"))
    home.remove(NAME)
    for look in (store.read, store.history, lambda: store.lock("apply")):
        with pytest.raises(StateCorrupt, match=f"the Secret {NAME}, the head of .* is missing") as refused:
            look()
        assert STORE in refused.value.hint
    assert store.lock_info() is None


def test_labels_of_others_on_the_head_are_kept_and_disturb_nobody(home: Home) -> None:
    store = home.open()
    with store.lock("apply") as lease:
        base = store.write(lease, a_state("a"))
        for label in ("one", "two"):
            home.cluster.change("secrets", NAME, lambda found: found["metadata"]["labels"].update(team=label))  # noqa: B023
            store.append(lease, created(label))
    assert store.read() == fold_all(base, [*created("one"), *created("two")])
    assert home.secrets()[NAME]["metadata"]["labels"]["team"] == "two"


def test_whoever_writes_without_the_lock_is_noticed(home: Home) -> None:
    store = home.open()
    with store.lock("apply") as lease:
        store.write(lease, a_state("a"))
        store.append(lease, created("b"))
        home.cluster.change("secrets", NAME, lambda found: found["data"].update(journal=""))
        with pytest.raises(StateCorrupt, match="changed by something that does not hold the lock"):
            store.append(lease, created("c"))


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        (b"", StateCorrupt, "is no head of a state"),
        (b"[]", StateCorrupt, "is no head of a state"),
        (b'{"layout": 2}', StateTooNew, "has the layout 2, this version knows up to 1"),
        (
            index.Index(stack="another", fence=1, write="w").encode(),
            StateCorrupt,
            "is of stack 'another'",
        ),
        (
            index.Index(stack="s", fence=1, write="w").encode().replace(b'"fence":1', b'"fence":1e999'),
            StateCorrupt,
            "is no head of a state",
        ),
        (b"[" * 100_000, StateCorrupt, "is no head of a state"),
    ],
    ids=[
        "empty",
        "a list",
        "of a newer version",
        "of another stack",
        "a fence beyond all",
        "nested too deeply",
    ],
)
def test_a_head_that_is_none_is_told(home: Home, content: bytes, error: type[StoreError], says: str) -> None:
    home.cluster.make("v1", "Secret", NAME, data={"index": base64.b64encode(content).decode()})
    with pytest.raises(error, match=says):
        home.open().read()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\x1f\x8b\x08 no gzip at all", "is damaged"),
        (index.pack(b"{}")[:-3], "is cut short"),
        (b"plain", "is damaged"),
    ],
)
def test_a_part_that_is_damaged_is_told(home: Home, data: bytes, says: str) -> None:
    store = home.open()
    with store.lock("apply") as lease:
        store.write(lease, a_state("a"))
    [name] = home.secrets("snapshot")
    found = home.secrets()[name]
    with home.cluster.storage.lock:
        changed = {**found, "data": {"part": base64.b64encode(data).decode()}}
        home.cluster.storage.put(("secrets", "default", name), changed)
    with pytest.raises(StateCorrupt, match=says):
        store.read()


def test_a_few_bytes_that_claim_to_be_gigabytes_are_not_unpacked() -> None:
    bomb = gzip.compress(bytes(2**28 + 1))
    with pytest.raises(StateCorrupt, match="larger than 256 MiB"):
        index.unpack(bomb, place="here")


def test_a_namespace_that_is_not_there_has_no_state_and_takes_none(home: Home) -> None:
    store = home.open(namespace="nowhere")
    assert store.read() is None
    with pytest.raises(StoreError, match='namespaces "nowhere" not found') as refused:
        store.lock("apply")
    assert "kubectl create namespace nowhere" in refused.value.hint


def test_what_is_no_answer_of_an_api_server_is_never_no_state(home: Home) -> None:
    store = home.open(timeout=0.3)
    for answer in (HTML, refusal(403, "secrets is forbidden: User x cannot get"), refusal(500)):
        home.cluster.misbehave(answer)
        with pytest.raises(StoreError):
            store.read()
        home.cluster.behave()
    assert store.read() is None


def test_the_role_of_the_documentation_is_enough_and_to_plan_takes_less(home: Home, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "stores.md").read_text(encoding="utf-8")
    [written] = [
        block
        for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
        if "resources: [secrets]" in block
    ]
    rules = yaml.safe_load(written)["rules"]
    applies = tuple(Rule(verbs=tuple(rule["verbs"]), resources=tuple(rule["resources"])) for rule in rules)
    plans = tuple(Rule(verbs=("get", "list"), resources=rule.resources) for rule in applies)
    home.cluster.server.users.tokens = {"a": "applier", "p": "planner"}
    home.cluster.admission.rules = {"applier": applies, "planner": plans}
    store = a_store(home.cluster.kubeconfig(tmp_path / "a", token="a"))
    reader = a_store(home.cluster.kubeconfig(tmp_path / "p", token="p"))
    assert reader.read() is None
    with store.lock("apply") as lease:
        store.take_key(lease, bytes(32))
        base = store.write(lease, store.write(lease, a_state("a")))
        store.append(lease, created("b"))
    candidate = store.candidate(on_lost=lambda: None)
    assert candidate is not None
    leading = candidate.attempt()
    assert leading is not None
    leading.release()
    assert reader.read() == fold_all(base, created("b"))
    assert [version.serial for version in reader.history()] == [2, 1]
    assert reader.secret_key(create=False) == bytes(32)
    with pytest.raises(StoreError, match='User "planner" cannot update resource "leases"') as refused:
        reader.lock("apply")
    assert "docs/stores.md has one" in refused.value.hint
    assert store.lock_info() is None


@pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl is not installed, and CI does not promise it"
)
def test_what_the_documentation_has_kubectl_do_shows_the_state(home: Home) -> None:
    store = home.open()
    with store.lock("apply") as lease:
        store.write(lease, a_state("a"))

    def kubectl(*words: str) -> str:
        told = subprocess.run(
            ["kubectl", "--kubeconfig", str(home.kubeconfig), *words],
            env={"HOME": str(home.kubeconfig.parent), "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=True,
        )
        return told.stdout

    there = kubectl("get", "secret,lease", "-l", "state.sandbox-reconciler/stack=research", "-o", "name")
    [part] = home.secrets("snapshot")
    assert set(there.split()) == {f"secret/{NAME}", f"secret/{part}", f"lease.coordination.k8s.io/{NAME}"}
    packed = base64.b64decode(kubectl("get", "secret", part, "-o", "jsonpath={.data.part}"))
    assert json.loads(gzip.decompress(packed))["serial"] == 1


def test_two_stacks_and_two_names_share_a_namespace(home: Home) -> None:
    stores = [
        home.open(),
        home.open(name="beside"),
        KubernetesStore("other", kubeconfig=str(home.kubeconfig), environ={}),
    ]
    for store in stores:
        with store.lock("apply") as lease:
            written = store.write(lease, replace(a_state(store.name), stack=store.stack))
            store.write(lease, written)
    for store in stores:
        state = store.read()
        assert state is not None
        assert set(state.sandboxes) == {store.name}
        assert [version.serial for version in store.history()] == [2, 1]
    with pytest.raises(StateCorrupt, match="is of stack 'other'"):
        home.open(name="reconciler-state-other").read()


def test_no_object_of_a_state_is_a_sandbox_and_none_is_touched_by_one(home: Home) -> None:
    """In one namespace with the sandboxes, of the same stack."""
    store = home.open()
    with store.lock("apply") as lease:
        written = store.write(lease, a_state("a"))
        store.append(lease, created("b"))
    before = home.secrets()
    backend = KubernetesBackend(kubeconfig=str(home.kubeconfig), image="aio:1", stop_timeout=1.0)
    assert backend.list_running() == []
    assert backend.discover(NAME) is None
    info = backend.create(None, "sb-a")
    assert [found.sandbox_id for found in backend.list_running()] == ["sb-a"]
    backend.destroy(info)
    assert {name: found for name, found in home.secrets().items() if name in before} == before
    assert store.read() == fold_all(written, created("b"))


def test_older_versions_and_a_key_can_be_brought_in(home: Home) -> None:
    store = home.open(versions=3)
    with store.lock("apply") as lease:
        store.take_key(lease, bytes(range(32)))
        current = store.write(lease, a_state("now", serial=9))
        older = [a_state(f"v{serial}", serial=serial) for serial in range(5, 10)]
        assert store.keep(lease, older) == 3
        assert store.keep(lease, older[-1:]) == 0
        assert len(home.secrets("snapshot")) == 4, "what is not kept was written all the same"
        store.append(lease, created("b"))
    assert store.secret_key(create=True) == bytes(range(32))
    assert [version.serial for version in store.history()] == [10, 9, 8, 7]
    assert store.version(8) == a_state("v8", serial=8)
    assert store.read() == fold_all(current, created("b"))


@pytest.mark.parametrize("options", [{"name": "With.Dots"}, {"name": "x" * 64}, {"versions": 201}])
def test_what_a_cluster_would_not_take_is_refused_before_it_is_asked(home: Home, options: Any) -> None:
    with pytest.raises(ConfigError):
        home.open(**options)


def test_doctor_tells_the_server_and_what_is_not_encrypted(home: Home) -> None:
    store = home.open()
    with store.lock("apply") as lease:
        store.write(lease, store.write(lease, a_state("a")))
        said = {what: told for what, well, told in home.open(sealer=a_sealer(a_key())).check() if well}
    assert said["server"] == f"Kubernetes v1.33.1 at {home.cluster.url}"
    assert said["older versions"] == "1 kept"
    assert said["lock"].startswith("held by ")
    assert said["state is encrypted"] == "not yet: serial 1, serial 2; the next write does it"
    home.cluster.server.shutdown()
    home.cluster.server.server_close()
    [(what, well, told)] = home.open(timeout=0.3).check()
    assert (what, well) == ("server", False)
    assert "refuses connections" in told
