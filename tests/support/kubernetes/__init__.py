"""A fake Kubernetes cluster in one process: `tests.support.kubernetes.cluster.running()`."""
