"""What `container run` is told, and what it is never told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.backends.apple.command import Environment
from reconciler.backends.apple.request import decoded, encoded, words
from reconciler.errors import Permanent
from reconciler.model.desired import (
    Mount,
    MountKind,
    Network,
    NetworkMode,
    Port,
    Resources,
    SandboxSpec,
    Security,
)
from tests.backends.apple.builders import bind, order

GIB = 1024**3


def told(spec: SandboxSpec, **fields: Any) -> list[str]:
    before, after = words(order(spec, **fields), {"http": 49152, "web": 80})
    return [*before, "…", *after]


def holds(words: list[str], *run: str) -> bool:
    return any(tuple(words[at : at + len(run)]) == run for at in range(len(words)))


def test_what_is_not_declared_gets_the_hardened_default() -> None:
    said = told(SandboxSpec())
    labels = [said[at + 1].partition("=")[0] for at, word in enumerate(said) if word == "-l"]
    rest = [word for at, word in enumerate(said) if word != "-l" and (at == 0 or said[at - 1] != "-l")]
    assert rest == [
        "-d", "--name", "reconciler-a", "--progress", "none", "-p", "127.0.0.1:49152:8080",
        "--cap-drop", "ALL", "--init", "…", "aio",
    ]  # fmt: skip
    assert sorted(labels) == [
        f"sandbox-reconciler/{name}"
        for name in ("environment", "image", "instance", "managed-by", "ports", "sandbox-id")
    ]


@pytest.mark.parametrize(
    ("fields", "run"),
    [
        pytest.param({"resources": Resources(cpu=2.0)}, ("-c", "2"), id="processors are whole"),
        pytest.param({"resources": Resources(memory=GIB)}, ("-m", "1024M"), id="memory is in MiB"),
        pytest.param({"resources": Resources(shm=2 * GIB)}, ("--shm-size", "2048M"), id="shared memory"),
        pytest.param({"security": Security(read_only_root=True)}, ("--read-only",), id="read-only root"),
        pytest.param({"security": Security(user="1000:1000")}, ("-u", "1000:1000"), id="user"),
        pytest.param(
            {"security": Security(cap_drop=("NET_RAW",), cap_add=("SYS_TIME",))},
            ("--cap-drop", "NET_RAW", "--cap-add", "SYS_TIME"),
            id="capabilities as declared",
        ),
        pytest.param({"network": Network(name="agents")}, ("--network", "agents"), id="a named network"),
        pytest.param({"network": Network(mode=NetworkMode.ISOLATED)}, ("--network", "none"), id="no network"),
        pytest.param({"runtime": "other"}, ("--runtime", "other"), id="runtime"),
        pytest.param({"labels": {"team": "search"}}, ("-l", "team=search"), id="a label"),
        pytest.param(
            {"entrypoint": ("/bin/e", "-x"), "command": ("serve",)},
            ("--entrypoint", "/bin/e", "…", "aio", "-x", "serve"),
            id="the entrypoint's further words come before the command",
        ),
        pytest.param(
            {"command": ("--", "-d")}, ("…", "aio", "--", "-d"), id="a command that looks like options"
        ),
        pytest.param(
            {
                "ports": (
                    Port(name="http", container=9000),
                    Port(name="web", container=80, host=80, bind="::1"),
                )
            },
            ("-p", "127.0.0.1:49152:9000", "-p", "[::1]:80:80"),
            id="ports with their addresses",
        ),
        pytest.param(
            {"mounts": (Mount(source="data", target="/d", kind=MountKind.VOLUME, read_only=True),)},
            ("-v", "data:/d:ro"),
            id="a volume",
        ),
        pytest.param(
            {"mounts": (Mount(target="/t", kind=MountKind.TMPFS),)}, ("--tmpfs", "/t"), id="a tmpfs"
        ),
        pytest.param(
            {"mounts": (Mount(target="/t", kind=MountKind.TMPFS, size=64 * 1024**2, read_only=True),)},
            ("--mount", "type=tmpfs,target=/t,size=64M,readonly"),
            id="a tmpfs of a size",
        ),
    ],
)
def test_a_field_becomes_these_arguments(fields: dict[str, Any], run: tuple[str, ...]) -> None:
    assert holds(told(SandboxSpec(**fields)), *run)


def test_no_init_and_no_port_where_they_are_declined() -> None:
    said = told(SandboxSpec(security=Security(init=False), network=Network(mode=NetworkMode.ISOLATED)))
    assert "--init" not in said
    assert "-p" not in said


@pytest.mark.parametrize(
    ("name", "file", "expected"),
    [
        pytest.param("plain", False, "--mount type=bind,source={},target=/mnt/x,readonly", id="a directory"),
        pytest.param("c:d", False, "--mount type=bind,source={},target=/mnt/x,readonly", id="with a colon"),
        pytest.param("a,b=c", False, "-v {}:/mnt/x:ro", id="with a comma and an equals sign"),
        pytest.param("key", True, "-v {}:/mnt/x:ro", id="a file"),
    ],
)
def test_a_path_is_mounted_the_way_that_takes_it(
    tmp_path: Path, name: str, file: bool, expected: str
) -> None:
    path = tmp_path / name
    path.write_text("x") if file else path.mkdir()
    assert holds(told(SandboxSpec(mounts=(bind(path, read_only=True),))), *expected.format(path).split(" "))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        pytest.param("a:b,c", False, id="a directory with a colon and a comma"),
        pytest.param("a:b", True, id="a file with a colon"),
        pytest.param("absent", None, id="a path that is not there"),
    ],
)
def test_a_path_that_no_way_takes_is_refused_by_name(tmp_path: Path, name: str, file: bool | None) -> None:
    path = tmp_path / name
    if file is not None:
        path.write_text("x") if file else path.mkdir()
    with pytest.raises(Permanent, match=name) as caught:
        told(SandboxSpec(mounts=(bind(path),)))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("fields", "about"),
    [
        pytest.param({"resources": Resources(cpu=0.5)}, "whole processors", id="half a processor"),
        pytest.param(
            {"resources": Resources(memory=GIB + 1)}, "memory of", id="memory that would be rounded"
        ),
        pytest.param({"labels": {"team": "a=b"}}, "label team", id="an equals sign in a label"),
        pytest.param({"labels": {"sandbox-reconciler/stack": "x"}}, "this tool's own", id="a label of ours"),
        pytest.param({"entrypoint": ("",)}, "empty entrypoint", id="an empty entrypoint"),
        pytest.param(
            {"mounts": (Mount(target="/a,b", kind=MountKind.TMPFS, size=1024**2),)},
            "/a,b",
            id="a comma in a tmpfs",
        ),
        pytest.param(
            {"mounts": (Mount(source="v", target="/a:b", kind=MountKind.VOLUME),)},
            "/a:b",
            id="a colon in a volume",
        ),
    ],
)
def test_what_would_become_something_else_is_refused(fields: dict[str, Any], about: str) -> None:
    with pytest.raises(Permanent, match=about):
        told(SandboxSpec(**fields))


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"image": "--rm"}, id="an image that is an option"),
        pytest.param({"name": "x" * 64}, id="a name of 64 characters"),
        pytest.param({"name": "-x"}, id="a name that is an option"),
    ],
)
def test_a_name_that_cannot_be_one_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(Permanent, match="cannot be"):
        told(SandboxSpec(), **fields)


@given(st.text())
def test_a_label_of_ours_comes_back_whatever_it_holds(value: str) -> None:
    assert "=" not in encoded(value)
    assert decoded(encoded(value)) == value


def test_environment_values_are_never_arguments() -> None:
    environment = Environment(variables={"ONE": "canary-1", "TWO": "canary-2\nsecond line", "THREE": ""})
    environment.check()
    assert environment.words(7) == ["--env-file", "/dev/fd/7", "-e", "TWO"]
    assert environment.text() == b"ONE=canary-1\nTHREE=\n"
    assert environment.process({"PATH": "/bin"}) == {"PATH": "/bin", "TWO": "canary-2\nsecond line"}


@pytest.mark.parametrize("line_break", ["\n", "\r", "\x0b", "\x0c", "\x85", "\u2028", "\u2029"])
def test_whatever_ends_a_line_over_there_keeps_a_value_out_of_the_file(line_break: str) -> None:
    assert Environment(variables={"A": f"x{line_break}y"}).text() == b""


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param({"HOME": "/a\n/b"}, id="several lines under a name that the command listens to"),
        pytest.param({"DYLD_INSERT_LIBRARIES": "a\nb"}, id="several lines for the loader"),
        pytest.param({"A": "x\x00y"}, id="a zero byte"),
        pytest.param({"#A": "x"}, id="a name that is a comment"),
        pytest.param({"A B": "x"}, id="a name with a space"),
        pytest.param({"A=B": "x"}, id="a name with an equals sign"),
    ],
)
def test_a_variable_that_cannot_be_passed_on_is_refused(variables: dict[str, str]) -> None:
    def pass_on(environment: Environment) -> None:
        environment.check()
        environment.process({"HOME": "/Users/me"})

    with pytest.raises(Permanent):
        pass_on(Environment(variables=variables))
