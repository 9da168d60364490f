"""Sandboxes as pods of a Kubernetes cluster, or as `Sandbox` objects of agent-sandbox."""

from reconciler.backends.kubernetes.backend import KubernetesBackend

__all__ = ["KubernetesBackend"]
