"""Builders for the kubernetes store's tests: stores of one namespace of a cluster, and processes of their own.

`python -m tests.stores.clusters KUBECONFIG` holds the lock until it is taken away.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reconciler.stores.host import Host, this_host
from reconciler.stores.kubernetes import KubernetesStore
from reconciler.stores.kubernetes.lease import Timing
from reconciler.stores.sealing import PLAIN, Sealer
from reconciler.testing.store_conformance import STACK
from tests.stores.contender import hold

NAME = f"reconciler-state-{STACK}"  # of the head, and of the Lease


def a_store(
    kubeconfig: Path,
    *,
    host: Host | None = None,
    timing: Timing | None = None,
    environ: Mapping[str, str] | None = None,
    sealer: Sealer = PLAIN,
    **options: Any,
) -> KubernetesStore:
    return KubernetesStore(
        STACK,
        **{"kubeconfig": str(kubeconfig), "timeout": 10.0, **options},
        host=host or this_host(),
        timing=timing,
        environ=environ or {},
        sealer=sealer,
    )


def a_contender(where: str) -> KubernetesStore:
    """For `tests.stores.contention`: `where` is a kubeconfig."""
    return KubernetesStore(STACK, kubeconfig=where, environ={}, timing=Timing(poll=0.02))


if __name__ == "__main__":
    hold(a_store(Path(sys.argv[1]), timing=Timing(renew=1e6)))
