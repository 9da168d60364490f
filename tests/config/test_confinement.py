"""Mounts, networks, capabilities, seccomp profiles, restarts: what each way to write them means."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from reconciler.backends.containers import PREFIX
from reconciler.config.confinement import MAX_PROFILE_BYTES
from reconciler.model.desired import Address, Mount, MountKind, Network, NetworkMode, SandboxSpec
from tests.config.written import HEAD, configured, desired, one, wrong

PROFILE = json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": []})


@pytest.mark.parametrize(
    ("entry", "mount"),
    [
        ("{source: /a, target: /t}", Mount(source="/a", target="/t")),
        ("{type: bind, source: /a, target: /t}", Mount(source="/a", target="/t")),
        (
            "{type: volume, source: a, target: /t, read_only: true}",
            Mount(kind=MountKind.VOLUME, source="a", target="/t", read_only=True),
        ),
        ("{type: tmpfs, target: /t}", Mount(kind=MountKind.TMPFS, target="/t")),
        ("{type: tmpfs, target: /t, size: 1Mi}", Mount(kind=MountKind.TMPFS, target="/t", size=2**20)),
        ("{source: /a, target: //t/../u//}", Mount(source="/a", target="/u")),
    ],
    ids=[
        "a path is a bind", "which may be said", "a volume's source stays a name", "memory has no source",
        "and may have a size", "a target as an engine takes it",
    ],
)  # fmt: skip
def test_mounts(tmp_path: Path, entry: str, mount: Mount) -> None:
    assert one(tmp_path, f"{{mounts: [{entry}]}}").spec.mounts == (mount,)


def test_a_mount_may_differ_by_instance(tmp_path: Path) -> None:
    fleet = desired(
        tmp_path,
        "sandboxes:\n  box:\n    for_each: {a: volume, b: volume}\n"
        '    mounts: [{type: "${each.value}", source: "data-${each.key}", target: /t}]\n',
    ).sandboxes

    assert [sandbox.spec.mounts for sandbox in fleet.values()] == [
        (Mount(kind=MountKind.VOLUME, source=f"data-{key}", target="/t"),) for key in "ab"
    ]


@pytest.mark.parametrize("block", ["{name: agents}", "{mode: open, name: agents}"])
def test_a_named_network_is_an_open_one(tmp_path: Path, block: str) -> None:
    sandbox = one(tmp_path, f"{{network: {block}}}")

    assert sandbox.spec.network == Network(mode=NetworkMode.OPEN, name="agents")
    assert sandbox.at("network.mode").line == sandbox.at("network.name").line


@pytest.mark.parametrize(
    ("block", "field", "value"),
    [
        ("{cap_drop: [all]}", "cap_drop", ("ALL",)),
        ("{cap_drop: [NET_RAW, ALL]}", "cap_drop", ("ALL",)),
        ("{cap_drop: [cap_net_raw, NET_RAW, Cap_Kill]}", "cap_drop", ("NET_RAW", "KILL")),
        ("{cap_drop: []}", "cap_drop", ()),
        ("{cap_drop: [ALL], cap_add: [net_admin]}", "cap_add", ("NET_ADMIN",)),
        ("{init: true}", "init", True),
        ("{seccomp: unconfined}", "seccomp", "unconfined"),
        ("{}", "cap_add", None),
    ],
    ids=[
        "lower case", "all stands for the others", "a prefix, and twice the same", "none is not nothing said",
        "all but one", "an init", "no profile", "nothing said",
    ],
)  # fmt: skip
def test_security(tmp_path: Path, block: str, field: str, value: Any) -> None:
    assert getattr(one(tmp_path, f"{{security: {block}}}").spec.security, field) == value


def test_two_ways_to_write_capabilities_have_one_canonical_form(tmp_path: Path) -> None:
    first = one(tmp_path, "{security: {cap_drop: [CAP_KILL, net_raw]}}").spec.canonical()
    second = one(tmp_path, "{security: {cap_drop: [NET_RAW, KILL]}}").spec.canonical()

    assert first == second


def test_a_changed_profile_is_a_changed_field(tmp_path: Path) -> None:
    def profile() -> str | None:
        return one(tmp_path, "{security: {seccomp: ./profiles/strict.json}}").spec.security.seccomp

    path = tmp_path / "profiles" / "strict.json"
    path.parent.mkdir()
    path.write_text(PROFILE)
    before = profile()
    assert before == f"{path}#sha256:{hashlib.sha256(PROFILE.encode()).hexdigest()[:12]}"
    assert profile() == before
    path.write_text(PROFILE + "\n")
    assert profile() != before


@pytest.mark.parametrize(
    ("content", "summary"),
    [
        (None, "there is no seccomp profile"),
        (b"defaultAction: x", "is not a JSON object"),
        (b"[]", "is not a JSON object"),
        (b"\xff\xfe\x00", "is not a JSON object"),
        (b"[" * 100_000, "is not a JSON object"),
        (b" " * (MAX_PROFILE_BYTES + 1), "is larger than 1 MiB"),
    ],
    ids=[
        "it is missing",
        "it is YAML",
        "it is a list",
        "it is no text",
        "it is nested for ever",
        "it is too large",
    ],
)
def test_a_profile_that_is_none(tmp_path: Path, content: bytes | None, summary: str) -> None:
    if content is not None:
        (tmp_path / "p.json").write_bytes(content)

    (problem,) = wrong(tmp_path, HEAD + "sandboxes:\n  box:\n    security: {seccomp: p.json}\n")

    assert summary in problem.summary
    assert str(problem.position) == "sandboxes.yaml:5:25"
    assert problem.fix


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["a directory", "a pipe that nobody writes to"])
def test_a_profile_that_is_no_file(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "p.json")

    (problem,) = wrong(tmp_path, HEAD + "sandboxes: {box: {security: {seccomp: p.json}}}\n")

    assert "is not a file" in problem.summary


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", "no"),
        ("false", "no"),
        ('"no"', "no"),
        ("always", "always"),
        ("unless-stopped", "unless-stopped"),
        ("on-failure", "on-failure"),
        ("on-failure:5", "on-failure:5"),
        ('"${var.r}"', "on-failure:2"),
    ],
)
def test_restart(tmp_path: Path, written: str, value: str) -> None:
    above = "variables: {r: {default: on-failure:2}}\n"

    assert one(tmp_path, f"{{restart: {written}}}", above=above).spec.restart == value


def test_a_name_with_nothing_behind_it_is_a_sandbox(tmp_path: Path) -> None:
    fleet = desired(
        tmp_path, "defaults: {image: a}\nsandboxes:\n  first:\n  second: ~\n  third: {image: b}\n"
    ).sandboxes

    assert [sandbox.spec.image for sandbox in fleet.values()] == ["a", "a", "b"]
    assert str(fleet[Address("first")].position) == "sandboxes.yaml:5:3"
    assert one(tmp_path, "").spec == SandboxSpec()


def test_labels_of_ours_cannot_be_written_as_the_backends_write_them(tmp_path: Path) -> None:
    (problem,) = wrong(tmp_path, HEAD + f"sandboxes:\n  box:\n    labels: {{{PREFIX}stack: other}}\n")

    assert problem.code == "reserved-label"
    assert str(problem.position) == "sandboxes.yaml:5:14"


def test_options_of_engines_reach_the_constructor(tmp_path: Path) -> None:
    made = configured(
        tmp_path,
        HEAD + "backends:\n  d: {type: docker, host: 'unix:///run/podman/podman.sock', timeout: 1m30s, stop_timeout: 2,\n"
        "      image: busybox, prefix: agents, secrets_root: ./secrets}\n"
        "  a: {type: apple, binary: container, timeout: 5s, image: busybox, prefix: agents, bind: 127.0.0.1}\n",
    )  # fmt: skip

    assert made.desired.backends["d"].options == {
        "host": "unix:///run/podman/podman.sock", "timeout": 90.0, "stop_timeout": 2.0, "image": "busybox",
        "prefix": "agents", "secrets_root": str(tmp_path / "secrets"),
    }  # fmt: skip
    assert made.desired.backends["a"].options == {
        "binary": "container", "timeout": 5.0, "image": "busybox", "prefix": "agents", "bind": "127.0.0.1",
    }  # fmt: skip
