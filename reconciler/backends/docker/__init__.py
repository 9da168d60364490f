"""The `docker` backend: sandboxes as containers of a Docker engine, or of Podman behind its compatible socket."""

from reconciler.backends.docker.backend import DockerBackend

__all__ = ["DockerBackend"]
