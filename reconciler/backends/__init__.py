"""Floor 3: where sandboxes run. One file per backend; nobody imports one, the registry loads it by name."""
