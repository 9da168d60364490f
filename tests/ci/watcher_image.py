"""The image of `examples/container/Dockerfile`, built without a registry and without an index."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.docs.pages import ROOT
from tests.support.docker import Images
from tests.support.images import REPOSITORY
from tests.support.python_image import python_image
from tests.support.wheels import wheels

if TYPE_CHECKING:
    from docker import DockerClient

CONTAINER = ROOT / "examples" / "container"
EXTRAS = ("docker", "metrics", "postgres")


@contextmanager
def watcher_image(client: DockerClient, name: str, folder: Path) -> Iterator[str]:
    """Its reference, under a name of the caller's own. At the end it is gone, with all that it was made of."""
    from docker.errors import APIError, ImageNotFound

    folder.mkdir()
    base = python_image(wheels(folder, *EXTRAS))
    tags = {"build": f"{REPOSITORY}/{name}-build:latest", "": f"{REPOSITORY}/{name}:latest"}
    try:
        Images(client).load(base)
        for target, tag in tags.items():  # the first by itself, so that it has a name to be removed by
            _build(client, target=target, tag=tag, base=base.reference)
        yield tags[""]
    finally:
        for reference in (*tags.values(), base.reference):
            with suppress(ImageNotFound, APIError):  # another run may be at work with the same base
                client.images.remove(reference)


def _build(client: DockerClient, *, target: str, tag: str, base: str) -> None:
    from docker.errors import BuildError

    arguments = {"BASE": base, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
    try:
        client.images.build(
            path=str(CONTAINER), target=target, tag=tag, buildargs=arguments, rm=True, forcerm=True
        )
    except BuildError as error:
        log = "".join(each.get("stream", "") for each in error.build_log)
        raise AssertionError(f"{error}\n{log[-3000:]}") from error
