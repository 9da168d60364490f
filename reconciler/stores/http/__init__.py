"""State on a server that speaks Terraform's HTTP state protocol: GitLab's and others."""

from reconciler.stores.http.store import HttpStore

__all__ = ["HttpStore"]
