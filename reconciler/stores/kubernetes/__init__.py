"""State in Secrets of a Kubernetes namespace, the lock in a Lease."""

from reconciler.stores.kubernetes.store import KubernetesStore

__all__ = ["KubernetesStore"]
