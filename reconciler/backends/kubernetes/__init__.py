"""Sandboxes as pods of a Kubernetes cluster, or as `Sandbox` objects of agent-sandbox."""
