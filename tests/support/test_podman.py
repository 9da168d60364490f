"""Podman's Docker-compatible socket, where Podman can run containers."""

from __future__ import annotations

from tests.support.docker import EngineStack, get_json
from tests.support.podman import requires_podman, settings

pytestmark = requires_podman


def test_a_container_runs_answers_and_is_hardened(podman_stack: EngineStack) -> None:
    name = podman_stack.stranger(
        f"{podman_stack.name}-a", ports={"8080/tcp": ("127.0.0.1", None)}, user="1000", read_only=True, init=True,
        cap_drop=["ALL"], security_opt=["no-new-privileges"], mem_limit="64m", pids_limit=64,
    )  # fmt: skip
    [bound] = podman_stack.inspect(name)["NetworkSettings"]["Ports"]["8080/tcp"]
    assert get_json(f"http://127.0.0.1:{bound['HostPort']}")["version"] == "1"
    assert podman_stack.shell(name, "id", "-u") == (0, "1000\n")
    assert podman_stack.inspect(name)["HostConfig"]["Memory"] == 64 * 1024 * 1024


def test_the_settings_ask_for_no_more_than_this_process_may(podman_stack: EngineStack) -> None:
    [line] = [line for line in settings().splitlines() if line.startswith("default_ulimits")]
    assert line == 'default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]'
