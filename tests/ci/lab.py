"""One image of the watch, and the deployments that are tried with it, each for what it lacks and what it has to show.

The image takes a while to make, so one worker makes it, tries everything, and leaves verdicts for the others.
"""

from __future__ import annotations

import os
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.ci.watcher_image import watcher_image
from tests.support.docker import EngineStack, Images, connect, engine_stack
from tests.support.once import Verdicts, judged, passed
from tests.support.required import skip_unless

AIO = "ghcr.io/agent-infra/sandbox:latest"
SECRET = "token-of-the-tests"
_LACKS = "lacks: "
Check = Callable[[Any], None]


@dataclass(frozen=True, kw_only=True)
class Lab:
    """What a deployment is tried with: a stack of its own, the reference of the image, an empty folder."""

    stack: EngineStack
    image: str
    folder: Path

    @property
    def socket(self) -> str:
        return self.stack.host.removeprefix("unix://")

    @property
    def socket_group(self) -> int:
        return os.stat(self.socket).st_gid

    def adapted(self, text: str) -> str:
        """A configuration of the examples with this stack's name, and an image that is here and ready at once."""
        for there, here in (
            (AIO, self.stack.images.agent),
            ("stack: research", f"stack: {self.stack.name}"),
            ("successes: 3, interval: 1s, ", ""),
        ):
            assert there in text, f"the tests look for {there}"
            text = text.replace(there, here)
        return text

    def running(self) -> list[str]:
        """The ids of the stack's sandboxes that run."""
        return [found["Id"] for found in self.stack.containers() if found["State"]["Running"]]

    def kill_one(self) -> None:
        self.stack.client.api.kill(self.running()[0])

    def all_run(self, count: int) -> bool:
        return len(self.running()) == count


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """`lacks` says why it cannot be tried here, `opened` makes it, and each of `checks`, one after the other, looks at it."""

    lacks: Callable[[], str]
    opened: Callable[[Lab], AbstractContextManager[Any]]
    checks: Sequence[Check]


def tried(deployments: Mapping[str, Deployment], host: str, folder: Path) -> dict[str, str]:
    """The verdicts, by name of the deployment and of the check."""
    verdicts: dict[str, str] = {}
    with _laboratory(host, folder) as lab:
        for name, deployment in deployments.items():
            checks = {key(name, check): check for check in deployment.checks}
            verdicts |= _tried(name, deployment, checks, lab)
    return verdicts


def key(name: str, check: Check) -> str:
    return f"{name}: {check.__name__.replace('_', ' ')}"


def told(verdicts: Verdicts, name: str) -> None:
    """Pass, fail or skip as the verdict says."""
    lacks = verdicts[name].removeprefix(_LACKS) if verdicts[name].startswith(_LACKS) else ""
    skip_unless(not lacks, lacks)
    passed(verdicts, name)


def until(check: Callable[[], object], log: Callable[[], str], *, within: float = 40) -> None:
    """Wait for it. Fails with the end of the log."""
    deadline = time.monotonic() + within
    while not check():
        assert time.monotonic() < deadline, f"not so within {within} s; the log ends with:\n{log()[-3000:]}"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def _laboratory(host: str, folder: Path) -> Iterator[Callable[[], AbstractContextManager[Lab]]]:
    client = connect(host)
    images = Images(client)

    @contextmanager
    def lab() -> Iterator[Lab]:
        with engine_stack(client, images, host) as stack:
            place = folder / stack.name
            place.mkdir()
            yield Lab(stack=stack, image=image, folder=place)

    try:
        with (
            engine_stack(client, images, host) as named,
            watcher_image(client, named.name, folder / "wheels") as image,
        ):
            yield lab
    finally:
        client.close()


def _tried(
    name: str,
    deployment: Deployment,
    checks: Mapping[str, Check],
    lab: Callable[[], AbstractContextManager[Lab]],
) -> dict[str, str]:
    lacks = deployment.lacks()
    if lacks:
        return dict.fromkeys(checks, _LACKS + lacks)
    try:
        with lab() as made, deployment.opened(made) as opened:
            return judged(opened, checks)
    except Exception as error:
        trace = "".join(traceback.format_exception(error))
        return dict.fromkeys(checks, f"{name} could not be made, or not be taken down:\n{trace}")
