"""Input as an attack: what files, live objects, sandboxes, backends and the network can do to us, and what comes of it."""
