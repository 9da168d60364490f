"""Floor 3: where state is kept. One file per store; nobody imports one, the registry loads it by name."""
