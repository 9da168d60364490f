"""Floor 3: text to `Desired`."""
