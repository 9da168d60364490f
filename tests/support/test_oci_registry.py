"""A real engine pushes to the registry and pulls from it, slowly and not at all."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support.docker import EngineStack
from tests.support.images import image
from tests.support.registry import registry

pytestmark = pytest.mark.usefixtures("docker_engine")


def pulled(stack: EngineStack, repository: str, tag: str) -> list[dict[str, Any]]:
    return list(stack.client.api.pull(repository, tag=tag, stream=True, decode=True))


def test_what_was_pushed_is_pulled_by_tag_and_by_digest(docker_stack: EngineStack) -> None:
    made = image(marker=docker_stack.name)
    with registry() as served:
        repository = f"{served.host}/team/agent"
        docker_stack.images.load(made, f"{repository}:v1")
        said = list(docker_stack.client.api.push(repository, tag="v1", stream=True, decode=True))
        assert not [line for line in said if "error" in line], said
        docker_stack.images.remove(f"{repository}:v1")
        assert not docker_stack.client.images.list(repository)

        pulled(docker_stack, repository, "v1")
        assert docker_stack.client.images.get(f"{repository}:v1").id == made.id
        docker_stack.images.remove(f"{repository}:v1")

        digest = served.digest("team/agent", "v1")
        docker_stack.client.api.pull(f"{repository}@{digest}")
        assert docker_stack.client.images.get(f"{repository}@{digest}").id == made.id
        docker_stack.images.remove(f"{repository}@{digest}")


def test_a_moved_tag_is_pulled_anew(docker_stack: EngineStack) -> None:
    first, second = image(marker=f"{docker_stack.name}-1"), image(marker=f"{docker_stack.name}-2")
    with registry() as served:
        repository = f"{served.host}/agent"
        for made in (first, second):
            served.put("agent", "latest", made)
            pulled(docker_stack, repository, "latest")
            assert docker_stack.client.images.get(f"{repository}:latest").id == made.id
        docker_stack.images.remove(f"{repository}:latest")
        docker_stack.images.remove(first.id)


def test_a_slow_pull_shows_progress(docker_stack: EngineStack) -> None:
    made = image(marker=docker_stack.name, name="slow-pull")
    with registry() as served:
        served.put("agent", "slow", made)
        served.delay = 0.2
        began = time.monotonic()
        said = pulled(docker_stack, f"{served.host}/agent", "slow")
        assert time.monotonic() - began >= served.delay
        assert any("Pulling" in line.get("status", "") for line in said)
        docker_stack.images.remove(f"{served.host}/agent:slow")


@pytest.mark.parametrize("status", [401, 404, 500])
def test_a_failing_registry_fails_the_pull_and_heals(docker_stack: EngineStack, status: int) -> None:
    from docker.errors import APIError

    with registry() as served:
        served.put("agent", "v1", image())
        served.failure = status
        with pytest.raises(APIError):
            docker_stack.client.api.pull(f"{served.host}/agent", tag="v1")
        assert any("/manifests/v1" in request for request in served.requests)
        served.failure = None
        docker_stack.client.api.pull(f"{served.host}/agent", tag="v1")
        docker_stack.images.remove(f"{served.host}/agent:v1")
