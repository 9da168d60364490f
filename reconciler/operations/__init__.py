"""What a run that never ends needs beside its loop: metrics, health, notifications, an audit log, systemd. It hears events,
and decides nothing about sandboxes."""
