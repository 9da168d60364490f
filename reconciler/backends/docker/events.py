"""The engine's events, as hints that something may have happened to a sandbox. Tells names only: what is so, a look says.

One thread and one connection for each who listens. What happens to others' containers is not told.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from reconciler.backends.containers import MANAGED_BY, SANDBOX_ID
from reconciler.backends.docker.engine import Engine
from reconciler.backends.docker.find import sense
from reconciler.backends.docker.stream import Stream
from reconciler.backends.subscriber import Subscriber, joined
from reconciler.errors import BackendError

# What changes a container for whoever looks at it. A `kill` or `stop` that did is followed by `die`. Podman says `died` and
# `remove` where Docker says `die` and `destroy`. Commands and health checks that run inside stay out: they are many.
_OF_CONTAINERS = (
    "start", "die", "died", "pause", "unpause", "destroy", "remove", "rename", "update", "health_status",
)  # fmt: skip
_OF_NETWORKS = ("connect", "disconnect")
_GONE = ("destroy", "remove")
_ANSWERS_WITHIN = 5.0  # seconds for the engine to begin an answer, which it does at once
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0  # seconds between two attempts to take a broken stream up again
_ENDS_WITHIN = (
    2.0  # seconds to wait for the thread; one that is just connecting over TCP ends by itself, soon after
)


class EngineEvents:
    """A subscription. `pauses` are the shortest and the longest one between attempts, in seconds.

    Raises what the engine's absence is, at once, if there is nothing to listen to.
    """

    def __init__(
        self,
        engine: Engine,
        tell: Callable[[str], None],
        *,
        pauses: tuple[float, float] = (_FIRST_PAUSE, _LONGEST_PAUSE),
    ) -> None:
        self._engine = engine.again(timeout=_ANSWERS_WITHIN)
        self._subscriber = Subscriber(tell)
        self._pauses = pauses
        self._ids: dict[str, str] = {}  # of our containers: which sandbox each is
        self._stream = Stream(self._engine)
        try:
            self._begin(self._stream)
        except BaseException:
            self._engine.close()
            raise
        self._thread = threading.Thread(target=self._run, name="engine-events", daemon=True)
        self._thread.start()

    @property
    def is_closed(self) -> bool:
        return self._subscriber.is_closed

    def close(self) -> None:
        self._subscriber.close()
        self._stream.cut()
        joined(self._thread, _ENDS_WITHIN)

    def _begin(self, stream: Stream) -> None:
        """Raises with nothing left open. Events of containers carry our labels, those of networks only the container's id:
        so it is asked once which are ours, after the stream has begun, that none is missed."""
        events = [*_OF_CONTAINERS, *_OF_NETWORKS]
        filters = json.dumps({"type": ["container", "network"], "event": events})
        # The engine begins to answer a moment before it begins to listen; what comes in between it remembers.
        stream.open("/events", {"since": f"{time.time():.6f}", "filters": filters})
        try:
            listed = self._engine.containers(MANAGED_BY)
            with sense(self._engine.name):
                self._ids = {str(item["Id"]): _sandbox(item["Labels"]) for item in listed}
        except BaseException:
            stream.close()
            raise

    def _run(self) -> None:
        pause, longest = self._pauses
        while not self._subscriber.is_closed:
            began = time.monotonic()
            self._hear(self._stream)
            if time.monotonic() - began > longest:
                pause = self._pauses[0]  # what breaks as soon as it stands is not taken up without a pause
            pause = self._take_up(pause)
        self._stream.close()
        self._engine.close()

    def _hear(self, stream: Stream) -> None:
        """Until it breaks. How it broke does not matter: whoever looks next is told what is wrong with the engine."""
        with contextlib.closing(stream), contextlib.suppress(BackendError):
            for event in stream.objects():
                sandbox_id = self._whose(event)
                if sandbox_id:
                    self._subscriber(sandbox_id)

    def _take_up(self, pause: float) -> float:
        """Once it is done, tells that anything may have happened meanwhile. Returns the next pause."""
        while not self._subscriber.pause(pause):
            pause = min(2 * pause, self._pauses[1])
            stream = self._stream = Stream(self._engine)
            if self._subscriber.is_closed:
                break  # whoever closed it may have cut the one before
            with contextlib.suppress(BackendError):  # not there yet
                self._begin(stream)
                self._subscriber("")
                break
        return pause

    def _whose(self, event: Mapping[str, Any]) -> str:
        """The sandbox that an event is about, "" for none of ours."""
        actor: Any = event.get("Actor")
        attributes = actor.get("Attributes") if isinstance(actor, dict) else None
        if not isinstance(attributes, dict):
            return ""
        if event.get("Type") == "network":  # Podman gives the container as the actor
            return self._ids.get(str(attributes.get("container") or actor.get("ID")), "")
        container = str(actor.get("ID"))
        if MANAGED_BY in attributes:
            self._ids[container] = _sandbox(attributes)
        sandbox_id = self._ids.get(container, "")
        if event.get("Action") in _GONE:
            self._ids.pop(container, None)
        return sandbox_id


def _sandbox(labels: Mapping[str, Any]) -> str:
    return str(labels.get(SANDBOX_ID, ""))
