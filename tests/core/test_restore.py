"""What a state remembers of a spec can be made again: to the canonical form and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from reconciler.core.restore import Unrestorable, restored
from reconciler.model.desired import (
    Mount,
    MountKind,
    Network,
    NetworkMode,
    Port,
    Readiness,
    Resources,
    SandboxSpec,
    Secret,
    SecretRef,
    Security,
)

names = st.text(st.characters(codec="utf-8", exclude_characters="\x00."), min_size=1, max_size=8)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
words = st.lists(texts, max_size=3).map(tuple)
flags = st.none() | st.booleans()
secrets = st.builds(
    SecretRef,
    source=st.just("env A"),
    kind=st.just("env"),
    target=st.just(("A",)),
    digest=st.text("0123456789abcdef", min_size=8, max_size=8),
    delivery=st.sampled_from(["file", "environment"]),
    value=st.builds(Secret, texts),
)
ports = st.lists(
    st.builds(
        Port,
        name=names,
        container=st.integers(1, 65535),
        host=st.none() | st.integers(1, 65535),
        bind=st.sampled_from(["127.0.0.1", "0.0.0.0", "::1"]),
    ),
    max_size=2,
    unique_by=lambda port: port.name,
).map(lambda found: tuple(sorted(found, key=lambda port: port.name)))
targets = names.map(lambda name: f"/mnt/{name}.d/x.y")
mounts = st.lists(
    st.builds(Mount, target=targets, source=names, read_only=st.booleans())
    | st.builds(Mount, target=targets, source=names, kind=st.just(MountKind.VOLUME))
    | st.builds(Mount, target=targets, kind=st.just(MountKind.TMPFS), size=st.none() | st.integers(1, 9)),
    max_size=2,
    unique_by=lambda mount: mount.target,
).map(lambda found: tuple(sorted(found, key=lambda mount: mount.target)))
specs = st.builds(
    SandboxSpec,
    image=st.none() | texts,
    command=st.none() | words,
    entrypoint=st.none() | words,
    environment=st.dictionaries(names, texts, max_size=3),
    secrets=st.dictionaries(st.text("ABC_", min_size=1, max_size=4), secrets, max_size=2),
    ports=ports,
    mounts=mounts,
    resources=st.builds(
        Resources,
        cpu=st.none() | st.floats(0.1, 8),
        memory=st.none() | st.integers(1, 10**12),
        pids=st.none() | st.integers(1, 4096),
        shm=st.none() | st.integers(1, 10**9),
    ),
    network=st.builds(
        Network,
        mode=st.none() | st.sampled_from(list(NetworkMode)),
        name=st.none() | names,
        allow=st.lists(texts, max_size=2, unique=True).map(lambda found: tuple(sorted(found))),
    ),
    security=st.builds(
        Security,
        read_only_root=flags,
        cap_drop=st.none() | words.map(lambda found: tuple(sorted(found))),
        cap_add=st.none() | words.map(lambda found: tuple(sorted(found))),
        init=flags,
        no_new_privileges=flags,
        seccomp=st.none() | texts,
        user=st.none() | texts,
    ),
    runtime=st.none() | texts,
    restart=st.none() | st.sampled_from(["no", "always", "on-failure:3"]),
    thread_id=st.none() | texts,
    labels=st.dictionaries(names.map(lambda name: f"team.example/{name}"), texts, max_size=2),
    readiness=st.builds(Readiness, timeout=st.floats(1, 60)),
)


@given(specs)
def test_there_and_back_is_the_same_spec(spec: SandboxSpec) -> None:
    other = SandboxSpec(secrets=spec.secrets, readiness=spec.readiness)
    assert restored(spec.canonical(), other) == spec


@given(specs, specs)
def test_its_canonical_form_is_what_it_was_made_of(spec: SandboxSpec, like: SandboxSpec) -> None:
    made = restored(spec.canonical(), replace(like, secrets=spec.secrets))
    assert made.canonical() == spec.canonical()
    assert made.readiness == like.readiness


@pytest.mark.parametrize("now", [{}, {"TOKEN": "another"}], ids=["gone", "changed"])
def test_a_secret_that_nobody_has_any_more_is_named(now: dict[str, str]) -> None:
    def ref(digest: str) -> SecretRef:
        return SecretRef(source="env T", kind="env", target=("T",), digest=digest)

    was = SandboxSpec(secrets={"TOKEN": ref("old")})
    like = SandboxSpec(secrets={name: ref(digest) for name, digest in now.items()})
    with pytest.raises(Unrestorable, match="TOKEN"):
        restored(was.canonical(), like)
