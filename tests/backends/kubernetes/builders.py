"""Orders and specifications for tests, plain ones and any at all."""

from __future__ import annotations

import string
from typing import Any

from hypothesis import strategies as st
from msgspec.structs import replace

from reconciler.backends.kubernetes.order import Order
from reconciler.model.desired import (
    Address,
    Mount,
    MountKind,
    Network,
    NetworkMode,
    Owner,
    Port,
    ProbeKind,
    Readiness,
    Resources,
    SandboxSpec,
    Secret,
    SecretRef,
    Security,
)

OWNER = Owner(stack="research", lineage="lin-1", address=Address("a[0]"), generation=1, spec_hash="0" * 32)
OWNING = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "reconciler-a", "uid": "u-1"}}


def order(spec: SandboxSpec | None = None, **fields: Any) -> Order:
    spec = spec or SandboxSpec()
    base = Order(
        sandbox_id="a",
        name="reconciler-a",
        namespace="sandboxes",
        spec=spec,
        image=spec.image or "aio",
        mounts=spec.mounts,
        thread_id=spec.thread_id,
        secret_values={name: ref.value.reveal() for name, ref in spec.secrets.items() if ref.value},
    )
    return replace(base, **fields)


def a_secret(value: str = "s3cret", delivery: str = "file") -> SecretRef:
    return SecretRef(
        source="env T", kind="env", target=("T",), digest="d" * 32, delivery=delivery, value=Secret(value)
    )


_names = st.text(string.ascii_uppercase, min_size=1, max_size=6)
_texts = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12
) | st.sampled_from(["$(HOME)", "$$", "$$(A)", "a$", "$", "${X}", "$$$", "x$(y"])
_words = st.lists(_texts, min_size=1, max_size=3).map(tuple)
_label_keys = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?", fullmatch=True)
_secrets = st.builds(a_secret, st.text(max_size=8), st.sampled_from(["file", "environment"]))
_mounts = st.one_of(
    st.builds(Mount, kind=st.just(MountKind.BIND), source=st.just("/srv/x"), read_only=st.booleans(), target=st.just("/a")),
    st.builds(Mount, kind=st.just(MountKind.VOLUME), source=st.just("cache"), read_only=st.booleans(), target=st.just("/b")),
    st.builds(
        Mount, kind=st.just(MountKind.TMPFS), size=st.none() | st.integers(1, 2**34), target=st.just("/c"),
    ),
)  # fmt: skip
_networks = st.one_of(
    st.just(Network()),
    st.builds(Network, mode=st.sampled_from([NetworkMode.OPEN, NetworkMode.ISOLATED])),
    st.builds(
        Network,
        mode=st.just(NetworkMode.ALLOWLIST),
        allow=st.lists(st.sampled_from(["10.0.0.0/8", "1.2.3.4:443", "fd00::/8", "[fd00::1]:53"]), max_size=3).map(tuple),
    ),
)  # fmt: skip
_capabilities = st.none() | st.lists(st.sampled_from(["ALL", "CHOWN", "NET_ADMIN"]), unique=True).map(tuple)
_readiness = st.builds(
    Readiness,
    kind=st.sampled_from(ProbeKind),
    path=st.sampled_from(["/", "/v1/sandbox"]),
    port=st.sampled_from([None, "http", "web"]),
    command=st.just(("true", "x")),
    expect=st.sampled_from([200, 204, 302, 404]),
    successes=st.integers(1, 5),
    interval=st.none() | st.floats(0.05, 90),
)
specs = st.builds(
    SandboxSpec,
    image=st.none() | st.just("registry:5000/aio@sha256:00"),
    command=st.none() | _words,
    entrypoint=st.none() | _words,
    environment=st.dictionaries(_names, _texts, max_size=3),
    secrets=st.dictionaries(_names, _secrets, max_size=2),
    ports=st.sampled_from([(), (Port(name="web", container=80),), (Port(name="http", container=8080), Port(name="x", container=8080))]),
    mounts=st.lists(_mounts, max_size=3, unique_by=lambda mount: mount.target).map(tuple),
    resources=st.builds(
        Resources,
        cpu=st.none() | st.integers(1, 64_000).map(lambda thousandths: thousandths / 1000),
        memory=st.none() | st.integers(1, 2**40),
        shm=st.none() | st.integers(1, 2**34),
    ),
    network=_networks,
    security=st.builds(
        Security,
        read_only_root=st.none() | st.booleans(),
        cap_drop=_capabilities,
        cap_add=_capabilities,
        init=st.none() | st.booleans(),
        no_new_privileges=st.none() | st.booleans(),
        seccomp=st.sampled_from([None, "default", "unconfined"]),
        user=st.sampled_from([None, "0", "1000", "1000:1001"]),
    ),
    runtime=st.none() | st.just("gvisor"),
    restart=st.sampled_from([None, "no", "on-failure", "always", "unless-stopped"]),
    thread_id=st.none() | st.text(min_size=1, max_size=70),
    labels=st.dictionaries(_label_keys, _texts | st.text(max_size=80), max_size=3),
    readiness=_readiness,
    owner=st.none() | st.just(OWNER),
)  # fmt: skip
