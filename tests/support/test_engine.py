"""The images do what they are called, the stack of a test removes its own and nothing else, the proxy counts."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.docker import (
    MADE_BY_TEST,
    EngineStack,
    Images,
    connect,
    engine_lacks,
    engine_stack,
    get_json,
)
from tests.support.images import image, is_static, static_busybox
from tests.support.proxy import proxy

pytestmark = pytest.mark.usefixtures("docker_engine")
PUBLISHED = {"8080/tcp": ("127.0.0.1", None)}


def url_of(stack: EngineStack, name: str) -> str:
    [bound] = stack.inspect(name)["NetworkSettings"]["Ports"]["8080/tcp"]
    return f"http://127.0.0.1:{bound['HostPort']}"


def stopped_within(stack: EngineStack, name: str, grace: int) -> float:
    began = time.monotonic()
    stack.client.api.stop(name, timeout=grace)
    return time.monotonic() - began


def test_an_agent_answers_and_ends_on_sigterm(docker_stack: EngineStack) -> None:
    name = docker_stack.stranger(f"{docker_stack.name}-a", ports=PUBLISHED)
    assert get_json(url_of(docker_stack, name))["version"] == "1"
    assert docker_stack.shell(name, "sh", "-c", "id -u && ls /www/v1") == (0, "0\nsandbox\n")
    assert stopped_within(docker_stack, name, 20) < 20
    assert docker_stack.inspect(name)["State"]["ExitCode"] == 0


def test_an_agent_works_with_everything_hardened(docker_stack: EngineStack) -> None:
    name = docker_stack.stranger(
        f"{docker_stack.name}-h", ports=PUBLISHED, user="1000", read_only=True, cap_drop=["ALL"], init=True,
        security_opt=["no-new-privileges"], mem_limit="64m", pids_limit=64,
    )  # fmt: skip
    assert get_json(url_of(docker_stack, name))["success"] is True


def test_a_slow_one_answers_later(docker_stack: EngineStack) -> None:
    name = docker_stack.stranger(
        f"{docker_stack.name}-s",
        reference=docker_stack.images.slow,
        ports=PUBLISHED,
        environment={"SLOW_SECONDS": "1"},
    )
    with pytest.raises(OSError, match=r"."):
        get_json(url_of(docker_stack, name), within=0)
    assert get_json(url_of(docker_stack, name))["version"] == "1"


def test_a_crash_says_why_and_exits_with_3(docker_stack: EngineStack) -> None:
    name = docker_stack.stranger(f"{docker_stack.name}-c", reference=docker_stack.images.crash)
    assert docker_stack.client.api.wait(name)["StatusCode"] == 3
    told = docker_stack.client.api.logs(name, stdout=False, stderr=True).decode()
    assert [line.partition(":")[0] for line in told.splitlines()] == ["crash"] * 3


@pytest.mark.parametrize("init", [False, True], ids=["as process 1", "under an init"])
def test_a_deaf_one_answers_and_has_to_be_killed(docker_stack: EngineStack, init: bool) -> None:
    name = docker_stack.stranger(
        f"{docker_stack.name}-d", reference=docker_stack.images.deaf, ports=PUBLISHED, init=init
    )
    assert get_json(url_of(docker_stack, name))["version"] == "1"
    assert stopped_within(docker_stack, name, 1) >= 1
    assert docker_stack.inspect(name)["State"]["ExitCode"] == 137


def test_the_same_content_loaded_by_many_at_once_is_one_image(docker_engine: str) -> None:
    made = image(marker=f"at-once-{time.monotonic_ns()}")

    def load(_: int) -> str:
        with contextlib.closing(connect(docker_engine)) as client:
            return str(client.images.get(Images(client).load(made)).id)

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(load, range(4))) == {made.id}
    with contextlib.closing(connect(docker_engine)) as client:
        Images(client).remove(made.reference)
        assert not client.images.list(made.reference)


def test_a_tag_moves_to_other_content(docker_stack: EngineStack) -> None:
    first, second = image(marker="1"), image(marker="2")
    reference = docker_stack.tag(first)
    assert docker_stack.client.images.get(reference).id == first.id
    assert docker_stack.tag(second) == reference
    assert docker_stack.client.images.get(reference).id == second.id
    docker_stack.clean()
    assert not docker_stack.client.images.list(reference)


def test_the_end_of_a_test_removes_its_own_and_nothing_else(docker_stack: EngineStack) -> None:
    client, images = docker_stack.client, docker_stack.images
    keep = docker_stack.stranger(f"{docker_stack.name}-keep")
    volume = docker_stack.volume()
    with engine_stack(client, images, docker_stack.host) as other:
        network = other.network()
        client.containers.create(images.agent, name=f"{other.name}-bare")
        other.owns(f"{other.name}-bare")
        gone = other.stranger(f"{other.name}-x", network=network, volumes={other.volume(): {"bind": "/mnt"}})
    assert not docker_stack.exists(gone)
    assert not docker_stack.exists(f"{other.name}-bare")
    assert not client.networks.list(names=[network])
    assert not client.volumes.list(filters={"label": f"{MADE_BY_TEST}={other.name}"})
    assert docker_stack.inspect(keep)["State"]["Running"]
    assert client.volumes.get(volume).name == volume


def test_an_engine_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert "no container engine answers at unix://" in engine_lacks(f"unix://{tmp_path}/none.sock")


def test_the_busybox_needs_no_loader_and_this_python_does() -> None:
    busybox = static_busybox()
    assert busybox is not None
    assert is_static(busybox.read_bytes())
    assert not is_static(b"#!/bin/sh\n")


class TestProxy:
    def test_it_passes_everything_on_and_counts(self, docker_stack: EngineStack, tmp_path: Path) -> None:
        with (
            proxy(tmp_path, docker_stack.host) as before,
            contextlib.closing(connect(before.url)) as client,
        ):
            before.reset()
            client.images.load(image().archive())  # chunked, some megabytes
            name = f"{docker_stack.name}-p"
            docker_stack.owns(name)
            made = client.containers.create(image().reference, name=name)
            made.start()
            assert made.exec_run(["echo", "through"]).output == b"through\n"  # an upgraded connection
            assert list(made.logs(stream=True, follow=False)) == [b"serving on 8080\n"]
            made.remove(force=True)
            calls = before.calls
        assert calls["POST /images/load"] == calls["POST /containers/create"] == 1
        assert calls["POST /containers/{id}/start"] == calls["DELETE /containers/{id}"] == 1
        assert calls["POST /exec/{id}/start"] == 1

    def test_an_engine_that_is_gone_and_comes_back(self, docker_engine: str, tmp_path: Path) -> None:
        with proxy(tmp_path, docker_engine) as before, contextlib.closing(connect(before.url)) as client:
            before.refuse = True
            with pytest.raises(Exception, match=r"(?i)connection"):
                client.ping()
            before.refuse = False
            assert client.ping()

    def test_a_slow_engine_runs_into_the_callers_timeout(self, docker_engine: str, tmp_path: Path) -> None:
        with (
            proxy(tmp_path, docker_engine) as before,
            contextlib.closing(connect(before.url, timeout=0.2)) as client,
        ):
            before.delay = 0.5
            with pytest.raises(Exception, match="timed out"):
                client.ping()
