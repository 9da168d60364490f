"""Random life cycles: a snapshot, a configuration, a failing backend, an operation, and what must hold after each."""
