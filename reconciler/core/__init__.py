"""Floor 2: pure decisions. No clock, thread, file, socket, log or SDK: time and chance come in as arguments."""
