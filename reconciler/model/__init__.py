"""Floor 1: frozen data. Each type is made in one place and imported from its own module."""
