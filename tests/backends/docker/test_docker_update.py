"""What changes without a restart, and is put back without one, on the real engine."""

from __future__ import annotations

import time
from typing import Any

import pytest

from reconciler.errors import Conflict, NotFound, Permanent, Unavailable
from reconciler.model.desired import Network, Resources, SandboxSpec
from reconciler.model.observed import ObservedSandbox, Phase, SandboxInfo
from tests.backends.docker.conftest import OPEN, Lab
from tests.backends.docker.wire import Wire
from tests.support.docker import get_json

pytestmark = [pytest.mark.usefixtures("docker_engine"), pytest.mark.slow]
MIB = 1 << 20


def look(lab: Lab, info: SandboxInfo) -> ObservedSandbox:
    seen = lab.backend.look(info.sandbox_id)
    assert seen is not None
    return seen


def live(lab: Lab, info: SandboxInfo) -> dict[str, Any]:
    return dict(look(lab, info).attributes or {})


def updated(lab: Lab, info: SandboxInfo, spec: SandboxSpec) -> dict[str, Any]:
    """Its live attributes after the update, which must not have restarted it."""
    before = lab.raw(info)["State"]
    after = lab.backend.update(info, spec)
    assert after.container_id == info.container_id
    state = lab.raw(info)["State"]
    assert (state["Pid"], state["StartedAt"]) == (before["Pid"], before["StartedAt"])
    return live(lab, info)


ALL = Resources(cpu=0.5, memory=64 * MIB, pids=100)


@pytest.mark.parametrize(
    ("change", "path", "value"),
    [
        pytest.param({"resources": Resources(cpu=1.5)}, "resources.cpu", 1.5, id="more cpu"),
        pytest.param({"resources": Resources(cpu=0.25)}, "resources.cpu", 0.25, id="less cpu"),
        pytest.param(
            {"resources": Resources(memory=128 * MIB)}, "resources.memory", 128 * MIB, id="memory up"
        ),
        pytest.param(
            {"resources": Resources(memory=32 * MIB)}, "resources.memory", 32 * MIB, id="memory down"
        ),
        pytest.param({"resources": Resources(pids=200)}, "resources.pids", 200, id="more processes"),
        pytest.param({"resources": Resources(pids=50)}, "resources.pids", 50, id="fewer processes"),
        pytest.param({"restart": "always"}, "restart", "always", id="restart always"),
        pytest.param({"restart": "on-failure:4"}, "restart", "on-failure:4", id="restart on failure"),
    ],
)
def test_a_limit_changes_without_a_restart(
    lab: Lab, change: dict[str, Any], path: str, value: object
) -> None:
    info = lab.running(resources=ALL)
    spec = lab.spec(**{"resources": ALL, **change})
    assert updated(lab, info, spec)[path] == value


def test_what_is_not_declared_any_more_is_lifted(lab: Lab) -> None:
    info = lab.running(resources=ALL, restart="always")
    seen = updated(lab, info, lab.spec())
    machine = lab.stack.client.info()
    assert seen["resources.cpu"] == machine["NCPU"]
    assert seen["resources.memory"] == machine["MemTotal"]
    assert seen["resources.pids"] == 4096  # the hardened default
    assert seen["restart"] == "no"


def test_limits_are_held_by_the_kernel(lab: Lab) -> None:
    info = lab.running()
    lab.backend.update(info, lab.spec(resources=Resources(memory=16 * MIB, pids=20)))
    done = lab.backend.exec(info, ["sh", "-c", "i=0; while [ $i -lt 40 ]; do sleep 1 & i=$((i+1)); done"])
    assert "can't fork" in done.stderr
    deadline = time.monotonic() + 60
    while lab.backend.exec(
        info, ["true"]
    ).exit_code:  # until those are over, there is no room for another process
        assert time.monotonic() < deadline
    fill = lab.backend.exec(info, ["sh", "-c", "tail /dev/zero"])
    assert fill.exit_code == 137


def test_an_update_that_is_none_asks_the_engine_for_nothing(lab: Lab, wire: Wire) -> None:
    info, spec = lab.running(resources=ALL), lab.spec(resources=ALL)
    assert lab.make(wire.url).update(info, spec) == info
    assert wire.count("^POST") == 0


def test_memory_below_what_it_uses_is_told(lab: Lab) -> None:
    """An engine with the second version of control groups reclaims instead, and ends what does not fit."""
    info = lab.running(resources=ALL)
    lab.backend.exec(info, ["sh", "-c", "head -c 40000000 /dev/zero > /dev/shm/held"])
    if lab.stack.client.info().get("CgroupVersion") == "2":
        pytest.skip("only the first version of control groups refuses that")
    with pytest.raises(Permanent, match="unable to set memory limit") as raised:
        lab.backend.update(info, lab.spec(resources=Resources(cpu=0.5, memory=10 * MIB, pids=100)))
    assert "use a higher `resources.memory`" in raised.value.hint
    assert "\n" not in raised.value.message
    assert live(lab, info)["resources.memory"] == 64 * MIB
    assert lab.backend.is_alive(info)


def test_more_processors_than_there_are_is_told(lab: Lab) -> None:
    info = lab.running()
    with pytest.raises(Permanent, match="Range of CPUs is from") as raised:
        lab.backend.update(info, lab.spec(resources=Resources(cpu=4000)))
    assert "lower `resources.cpu`" in raised.value.hint


def test_docker_update_behind_our_back_is_undone(lab: Lab) -> None:
    info = lab.running(resources=ALL)
    lab.stack.client.api.update_container(info.container_id, mem_limit="99m", memswap_limit="120m")
    assert live(lab, info)["resources.memory"] == 99 * MIB
    assert updated(lab, info, lab.spec(resources=ALL))["resources.memory"] == 64 * MIB
    assert lab.raw(info)["HostConfig"]["MemorySwap"] == 64 * MIB


def test_paused_is_unpaused(lab: Lab) -> None:
    info = lab.running()
    lab.stack.client.api.pause(info.container_id)
    seen = look(lab, info)
    assert [(one.path, one.live, one.in_place) for one in seen.astray] == [("container.paused", True, True)]
    lab.backend.update(info, lab.spec())
    assert look(lab, info).astray == ()
    assert lab.backend.is_alive(info)


def test_renamed_is_named_back(lab: Lab) -> None:
    info = lab.running()
    lab.stack.client.api.rename(info.container_id, f"{lab.stack.name}-other")
    assert [one.path for one in look(lab, info).astray] == ["container.name"]
    assert lab.backend.update(info, lab.spec()) == info
    assert look(lab, info).astray == ()


def test_renamed_and_the_name_given_to_a_stranger_is_a_conflict(lab: Lab) -> None:
    info = lab.running()
    lab.stack.client.api.rename(info.container_id, f"{lab.stack.name}-other")
    stranger = lab.stack.stranger(str(info.container_name))
    with pytest.raises(Conflict, match="already in use"):
        lab.backend.update(info, lab.spec())
    assert lab.stack.inspect(stranger)["State"]["Running"]
    assert lab.backend.is_alive(info)


def test_taken_off_its_network_and_put_on_another_is_put_back_and_reached_again(lab: Lab) -> None:
    api, info, other = lab.stack.client.api, lab.running(network=OPEN), lab.stack.network()
    api.disconnect_container_from_network(info.container_id, "bridge")
    api.connect_container_to_network(info.container_id, other)
    [astray] = look(lab, info).astray
    assert (astray.path, astray.live, astray.meant) == ("container.networks", other, "bridge")
    after = lab.backend.update(info, lab.spec(network=OPEN))
    assert look(lab, info).astray == ()
    assert get_json(after.sandbox_url)["success"] is True  # perhaps on another port: the engine chose again
    assert lab.backend.discover(info.sandbox_id) == after


def test_a_network_of_ones_own_is_put_back(lab: Lab) -> None:
    name, api = lab.stack.network(), lab.stack.client.api
    fields = {"network": Network(name=name)}
    info = lab.running(**fields)
    assert look(lab, info).astray == ()
    api.disconnect_container_from_network(info.container_id, name)
    assert [one.path for one in look(lab, info).astray] == ["container.networks"]
    lab.backend.update(info, lab.spec(**fields))
    assert look(lab, info).astray == ()


def test_a_network_that_is_gone_is_told_and_is_not_the_sandboxs_absence(lab: Lab) -> None:
    name, api = lab.stack.network(), lab.stack.client.api
    info = lab.running(network=Network(name=name))
    api.disconnect_container_from_network(info.container_id, name)
    api.remove_network(name)
    with pytest.raises(Permanent, match=f"network {name} not found") as raised:
        lab.backend.update(info, lab.spec(network=Network(name=name)))
    assert not isinstance(raised.value, NotFound)
    assert f"docker network create {name}" in raised.value.hint


def test_an_isolated_one_stays_isolated(lab: Lab) -> None:
    info = lab.running()
    lab.stack.client.api.pause(info.container_id)
    lab.backend.update(info, lab.spec())
    assert (look(lab, info).phase, look(lab, info).astray) == (Phase.STARTING, ())
    interfaces = lab.backend.exec(info, ["ls", "/sys/class/net"]).stdout.split()
    assert "eth0" not in interfaces


def test_updating_what_is_not_there_is_told(lab: Lab) -> None:
    with pytest.raises(NotFound, match="there is no sandbox"):
        lab.backend.update(SandboxInfo(lab.id(), ""), lab.spec())


def test_an_update_whose_answer_was_lost_is_finished_by_the_next(lab: Lab, wire: Wire) -> None:
    info, backend = lab.running(resources=ALL), lab.make(wire.url)
    spec = lab.spec(resources=Resources(cpu=1, memory=96 * MIB, pids=100))
    with wire.fault(r"POST \S*/update", lose=True, times=1), pytest.raises(Unavailable):
        backend.update(info, spec)
    backend.update(info, spec)
    seen = live(lab, info)
    assert (seen["resources.cpu"], seen["resources.memory"]) == (1, 96 * MIB)
