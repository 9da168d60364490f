"""A folder with a configuration, planned and applied in this process, on real backends and a real file store.

The same path as the command's, without the command: what a test gets back are the plan and the results themselves.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from reconciler.backends.registry import open_backend
from reconciler.config.configure import configure
from reconciler.config.references import with_key
from reconciler.config.secrets import resolve_secrets
from reconciler.core.planner import PlanOptions, make_plan
from reconciler.engine.context import BackendPool, Context
from reconciler.engine.refresh import look
from reconciler.engine.stop import StopRequest
from reconciler.engine.workflow import ApplyOptions, ApplyReport, apply, plan
from reconciler.model.capabilities import Capabilities
from reconciler.model.desired import Scalar
from reconciler.model.observed import Observed
from reconciler.model.outcome import StepStatus
from reconciler.model.plan import Plan, Selection
from reconciler.stores.registry import open_store


@dataclass
class Project:
    """`variables` are given as `--var` would; `environ` is all the environment that the configuration sees."""

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)
    paths: Sequence[str] = ()

    def write(self, text: str, name: str = "sandboxes.yaml") -> None:
        (self.folder / name).write_text(text, encoding="utf-8")

    @contextmanager
    def opened(self) -> Iterator[Context]:
        """As one run of the command has it. Raises ConfigError."""
        configuration = configure(
            paths=[Path(name) for name in self.paths],
            directory=self.folder,
            var=[f"{name}={value}" for name, value in self.variables.items()],
            environ=self.environ,
        )
        desired = configuration.desired
        with ExitStack() as ends:
            store = open_store(desired.store, stack=desired.stack, directory=Path(desired.directory))
            ends.callback(store.close)
            key = store.secret_key(create=True)
            keyed = partial(with_key, directory=desired.directory, environ=self.environ, run=_output)
            backends = BackendPool(desired.backends, lambda config: open_backend(keyed(config)))
            ends.callback(backends.close)
            yield Context(
                desired=resolve_secrets(desired, key=key, environ=self.environ, run=_output),
                store=store,
                backends=backends,
                illustrate=configuration.illustrate,
            )

    def plan(self, *, destroy: bool = False) -> Plan:
        with self.opened() as context:
            return plan(context, Selection(destroy=destroy))

    def plan_closely(self) -> Plan:
        """The plan of one that looks at every sandbox as closely as its backend can, whatever is declared."""
        with self.opened() as context:
            desired, capabilities = context.desired, _capabilities(context)
            options = PlanOptions(new_lineage="new", capabilities=capabilities)
            return make_plan(desired, context.store.read(), _look(context), options)

    def unread(self) -> dict[str, dict[str, tuple[Scalar, Scalar]]]:
        """By address, the declared fields that a close look does not show as they are declared, each with the
        declared and the live value; None for one that it does not show. References are not resolved."""
        with self.opened() as context:
            found = {}
            desired = context.desired
            for seen in _look(context).sandboxes:
                if seen.owner is None or seen.owner.stack != desired.stack:
                    continue  # an engine may hold stacks of the same configuration
                wanted = desired.sandboxes.get(seen.owner.address)
                if wanted is not None:
                    live = seen.attributes or {}
                    flat = wanted.spec.canonical()
                    pairs = {path: (value, live.get(path)) for path, value in flat.items()}
                    found[str(wanted.address)] = {
                        path: pair for path, pair in pairs.items() if pair[0] != pair[1]
                    }
            return found

    def apply(self, *, destroy: bool = False, parallelism: int | None = None) -> ApplyReport:
        """Whatever became of it."""
        with self.opened() as context:
            options = ApplyOptions(selection=Selection(destroy=destroy), parallelism=parallelism)
            return apply(context, options, confirm=lambda _: True, stop=StopRequest())

    def applied(self, *, destroy: bool = False) -> Plan:
        """The plan that was carried out, every step of it done; a step that is not fails the test."""
        report = self.apply(destroy=destroy)
        failed = [
            f"{result.address}: {result.status}: {result.error}"
            for result in report.results
            if result.status is not StepStatus.DONE
        ]
        assert not failed, "not everything was done:\n" + "\n".join(failed)
        return report.plan


def _capabilities(context: Context) -> Mapping[str, Capabilities]:
    return context.backends.capabilities(wanted.backend for wanted in context.desired.sandboxes.values())


def _look(context: Context) -> Observed:
    """At everything with labels, closely."""
    return look(
        {name: context.backends.get(name) for name in _capabilities(context)},
        closer=lambda _, listed: [seen.info.sandbox_id for seen in listed if seen.owner],
    )


def _output(argv: Sequence[str]) -> str:
    return subprocess.run(list(argv), capture_output=True, text=True, timeout=60, check=True).stdout
