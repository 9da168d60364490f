"""Small builders for the tests of the apple backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reconciler.backends.apple import AppleBackend
from reconciler.backends.apple.request import Order
from reconciler.model.desired import Mount, SandboxSpec, Secret, SecretRef
from tests.backends.fake_container import Engine


def order(spec: SandboxSpec | None = None, **fields: Any) -> Order:
    spec = spec or SandboxSpec()
    given: dict[str, Any] = {
        "name": "reconciler-a",
        "sandbox_id": "a",
        "instance": "i1",
        "spec": spec,
        "image": "aio",
        "bind": "127.0.0.1",
        "mounts": spec.mounts,
    }
    return Order(**{**given, **fields})


def secret(value: str, delivery: str = "file") -> SecretRef:
    return SecretRef(
        source="env TOKEN",
        kind="env",
        target=("TOKEN",),
        digest="d" * 32,
        delivery=delivery,
        value=Secret(value),
    )


def bind(source: Path, target: str = "/mnt/x", *, read_only: bool = False) -> Mount:
    return Mount(source=str(source), target=target, read_only=read_only)


def backend_on(engine: Engine, tmp_path: Path, **options: Any) -> AppleBackend:
    return AppleBackend(
        **{"binary": engine.binary, "root": str(tmp_path / "kept"), "image": "aio", **options}
    )
