"""What is asked of the engine for a specification: every field, and the hardened defaults."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.backends.docker.request import DEFAULT_PIDS, Order, body, update_body
from reconciler.model.desired import (
    Mount,
    MountKind,
    Network,
    NetworkMode,
    Port,
    Resources,
    SandboxSpec,
    Secret,
    SecretRef,
    Security,
)

MACHINE = {"NCPU": 4, "MemTotal": 8 << 30}


def asked(spec: SandboxSpec, **fields: Any) -> dict[str, Any]:
    return body(
        Order(sandbox_id="a-1", spec=spec, image="app:1", bind="127.0.0.1", mounts=spec.mounts, **fields)
    )


def test_what_is_not_declared_is_hardened() -> None:
    host = asked(SandboxSpec())["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert host["CapAdd"] == []
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["PidsLimit"] == DEFAULT_PIDS
    assert host["Init"] is True
    assert host["PortBindings"] == {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "0"}]}
    assert host["RestartPolicy"]["Name"] == "no"
    assert not host["ReadonlyRootfs"]


@pytest.mark.parametrize(
    ("spec", "path", "value"),
    [
        pytest.param(SandboxSpec(command=("a", "b")), "Cmd", ["a", "b"], id="command"),
        pytest.param(
            SandboxSpec(entrypoint=()), "Entrypoint", [], id="an empty entrypoint clears the image's"
        ),
        pytest.param(SandboxSpec(environment={"A": "1"}), "Env", ["A=1"], id="environment"),
        pytest.param(SandboxSpec(security=Security(user="1000:5")), "User", "1000:5", id="user"),
        pytest.param(SandboxSpec(resources=Resources(cpu=0.1)), "HostConfig.NanoCpus", 100_000_000, id="cpu"),
        pytest.param(SandboxSpec(resources=Resources(memory=64)), "HostConfig.Memory", 64, id="memory"),
        pytest.param(SandboxSpec(resources=Resources(memory=64)), "HostConfig.MemorySwap", 64, id="no swap"),
        pytest.param(SandboxSpec(resources=Resources(pids=7)), "HostConfig.PidsLimit", 7, id="pids"),
        pytest.param(SandboxSpec(resources=Resources(shm=9)), "HostConfig.ShmSize", 9, id="shm"),
        pytest.param(SandboxSpec(runtime="runsc"), "HostConfig.Runtime", "runsc", id="runtime class"),
        pytest.param(
            SandboxSpec(restart="on-failure:3"),
            "HostConfig.RestartPolicy",
            {"Name": "on-failure", "MaximumRetryCount": 3},
            id="restart policy",
        ),
        pytest.param(
            SandboxSpec(network=Network(mode=NetworkMode.ISOLATED)),
            "HostConfig.NetworkMode",
            "none",
            id="isolated",
        ),
        pytest.param(
            SandboxSpec(network=Network(mode=NetworkMode.ISOLATED)),
            "HostConfig.PortBindings",
            {},
            id="no way in",
        ),
        pytest.param(
            SandboxSpec(network=Network(name="n")), "HostConfig.NetworkMode", "n", id="named network"
        ),
        pytest.param(
            SandboxSpec(security=Security(cap_drop=())),
            "HostConfig.CapDrop",
            [],
            id="capabilities kept when asked",
        ),
        pytest.param(
            SandboxSpec(security=Security(cap_add=("CHOWN",))),
            "HostConfig.CapAdd",
            ["CHOWN"],
            id="capability added",
        ),
        pytest.param(
            SandboxSpec(security=Security(cap_add=("CHOWN",))),
            "HostConfig.CapDrop",
            ["ALL"],
            id="adding one keeps the others dropped",
        ),
        pytest.param(
            SandboxSpec(security=Security(no_new_privileges=False)),
            "HostConfig.SecurityOpt",
            [],
            id="privileges",
        ),
        pytest.param(
            SandboxSpec(security=Security(seccomp="unconfined")),
            "HostConfig.SecurityOpt",
            ["no-new-privileges", "seccomp=unconfined"],
            id="no seccomp profile when asked",
        ),
        pytest.param(
            SandboxSpec(security=Security(read_only_root=True)),
            "HostConfig.ReadonlyRootfs",
            True,
            id="read-only",
        ),
        pytest.param(
            SandboxSpec(security=Security(init=False)), "HostConfig.Init", False, id="no init when asked"
        ),
        pytest.param(
            SandboxSpec(mounts=(Mount(source="/a:b", target="/m", read_only=True),)),
            "HostConfig.Mounts",
            [{"Type": "bind", "Source": "/a:b", "Target": "/m", "ReadOnly": True}],
            id="a path with a colon",
        ),
        pytest.param(
            SandboxSpec(mounts=(Mount(source="data", target="/m", kind=MountKind.VOLUME),)),
            "HostConfig.Mounts",
            [{"Type": "volume", "Source": "data", "Target": "/m", "ReadOnly": False}],
            id="named volume",
        ),
        pytest.param(
            SandboxSpec(mounts=(Mount(target="/m", kind=MountKind.TMPFS, size=5),)),
            "HostConfig.Mounts",
            [{"Type": "tmpfs", "Target": "/m", "ReadOnly": False, "TmpfsOptions": {"SizeBytes": 5}}],
            id="tmpfs",
        ),
        pytest.param(
            SandboxSpec(ports=(Port(name="api", container=9000, host=9001, bind="0.0.0.0"),)),
            "HostConfig.PortBindings",
            {
                "8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "0"}],
                "9000/tcp": [{"HostIp": "0.0.0.0", "HostPort": "9001"}],
            },
            id="a port more, beside the sandbox's own",
        ),
        pytest.param(
            SandboxSpec(ports=(Port(name="http", container=80),)),
            "HostConfig.PortBindings",
            {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "0"}]},
            id="the sandbox's own port elsewhere",
        ),
    ],
)
def test_a_field_reaches_the_engine(spec: SandboxSpec, path: str, value: object) -> None:
    found: Any = asked(spec)
    for key in path.split("."):
        found = found[key]
    assert found == value


def test_a_secret_is_in_the_environment_only_when_asked_for() -> None:
    def ref(delivery: str) -> SecretRef:
        return SecretRef(
            source="env X", kind="env", target=("X",), digest="d", delivery=delivery, value=Secret("canary")
        )

    spec = SandboxSpec(secrets={"FILE": ref("file"), "PLAIN": ref("environment")})
    made = asked(spec, secret_environment={"PLAIN": "canary"})
    assert sorted(made["Env"]) == ["FILE_FILE=/run/secrets/FILE", "PLAIN=canary"]
    assert "canary" not in str(made["Labels"])


@pytest.mark.parametrize(
    ("spec", "live", "changes"),
    [
        pytest.param(SandboxSpec(), {"PidsLimit": DEFAULT_PIDS}, {}, id="as it should be"),
        pytest.param(
            SandboxSpec(resources=Resources(memory=64)),
            {"PidsLimit": DEFAULT_PIDS, "Memory": 32, "MemorySwap": 32},
            {"Memory": 64, "MemorySwap": 64},
            id="memory raises swap with it",
        ),
        pytest.param(
            SandboxSpec(),
            {"PidsLimit": DEFAULT_PIDS, "Memory": 32, "NanoCpus": 5},
            {"Memory": 8 << 30, "MemorySwap": 8 << 30, "NanoCpus": 4_000_000_000},
            id="limits no longer declared are lifted to all the machine has",
        ),
        pytest.param(
            SandboxSpec(), {"PidsLimit": 0}, {"PidsLimit": DEFAULT_PIDS}, id="the default is a limit too"
        ),
        pytest.param(
            SandboxSpec(restart="always"),
            {"PidsLimit": DEFAULT_PIDS, "RestartPolicy": {"Name": "", "MaximumRetryCount": 0}},
            {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 0}},
            id="restart policy",
        ),
    ],
)
def test_an_update_asks_for_what_differs_alone(
    spec: SandboxSpec, live: dict[str, Any], changes: dict[str, Any]
) -> None:
    assert update_body(spec, live, MACHINE) == changes
