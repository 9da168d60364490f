"""Floor 4: effects in order."""
