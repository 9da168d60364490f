"""How a request leaves this machine: through which proxy, and never longer than its deadline."""
