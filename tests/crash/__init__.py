"""Kill it anywhere, run it again, it converges: shown by killing it everywhere. See docs/guarantees.md."""
