"""What a run works with: the configuration, the store, the backends, the clock, and where events go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from msgspec import Struct, field

from reconciler.backends.base import SandboxBackend
from reconciler.core.migration import refuse_migrated
from reconciler.engine.clock import Clock, SystemClock
from reconciler.errors import ConfigError, Refused
from reconciler.model.capabilities import Capabilities
from reconciler.model.desired import BackendConfig, Desired
from reconciler.model.diagnostic import Diagnostic
from reconciler.model.event import Event
from reconciler.model.saved import Inputs
from reconciler.model.state import State
from reconciler.stores.base import Store

if TYPE_CHECKING:
    from reconciler.core.calls import Limits
    from reconciler.engine.execute import Crew


class BackendPool:
    """Backends by their name in the YAML, each opened when first needed. Only the coordinator opens; workers use
    what is open."""

    def __init__(
        self, configs: Mapping[str, BackendConfig], open_backend: Callable[[BackendConfig], SandboxBackend]
    ) -> None:
        self._configs = dict(configs)
        self._open = open_backend
        self._opened: dict[str, SandboxBackend] = {}

    def get(self, name: str) -> SandboxBackend:
        """Raises ConfigError for a name that neither the YAML nor the state knows."""
        if name not in self._opened:
            if name not in self._configs:
                raise ConfigError(
                    f"backend {name!r} is not declared, and sandboxes of the state live on it",
                    hint=f"declare {name!r} under `backends:` again until its sandboxes are destroyed",
                )
            self._opened[name] = self._open(self._configs[name])
        return self._opened[name]

    def remember(self, state: State | None) -> None:
        """Also know the backends that the state's sandboxes were made on: the YAML may have lost them."""
        for name, saved in ({} if state is None else state.backends).items():
            if name not in self._configs and isinstance(saved.get("type"), str):
                options = saved.get("options")
                self._configs[name] = BackendConfig(
                    name=name,
                    type=saved["type"],
                    options=dict(options) if isinstance(options, Mapping) else {},
                )

    def capabilities(self, names: Iterable[str]) -> dict[str, Capabilities]:
        return {name: self.get(name).capabilities for name in sorted(set(names))}

    def saved(self, names: Iterable[str]) -> dict[str, dict[str, object]]:
        """What the state keeps of these backends, to find their sandboxes again."""
        return {
            name: {
                "type": self._configs[name].type,
                "options": dict(self._configs[name].options),
                "place": self.get(name).place(),
            }
            for name in sorted(set(names))
            if name in self._configs
        }

    def check_places(self, state: State | None) -> None:
        """Raises Refused when a backend looks somewhere else than where the state's sandboxes were made: what is
        not seen there is not gone."""
        if state is None:
            return
        for name in sorted({record.backend for record in state.sandboxes.values()}):
            before = state.backends.get(name, {}).get("place", "")
            now = self.get(name).place()
            if before and now != before:
                raise Refused(
                    f"backend {name!r} looks for sandboxes in {now or 'no place'}, but the state's are in {before}",
                    hint="run as the user and with the environment and options they were made with; to move "
                    "them, destroy them there first",
                )

    def close(self) -> None:
        for backend in self._opened.values():
            backend.close()


def ignore(_: Event) -> None:
    """For callers that do not watch."""


def bare(diagnostic: Diagnostic) -> Diagnostic:
    """For callers that have no source lines to show."""
    return diagnostic


def keyless() -> None:
    """For callers whose store has no key."""


class Context(Struct):
    """One run's collaborators. `desired` has its secrets resolved unless the run needs none. `illustrate` adds the
    source line to a remark that was made from a position alone. `key` tells the store's, as it was before this run may
    have made one; `inputs` what the configuration was made from. `crew` makes the calls; None is threads."""

    desired: Desired
    store: Store
    backends: BackendPool
    clock: Clock = field(default_factory=SystemClock)
    emit: Callable[[Event], None] = ignore
    jitter: Callable[[], float] | None = None
    crew: Callable[[Limits], Crew] | None = None
    illustrate: Callable[[Diagnostic], Diagnostic] = bare
    key: Callable[[], bytes | None] = keyless
    inputs: Callable[[], Inputs] = Inputs

    def recorded(self) -> State | None:
        """What the store holds, to work with. Raises Refused for what a migration left behind, and what `read` raises."""
        state = self.store.read()
        refuse_migrated(state, self.store.describe())
        return state
