"""Notify people when backups stop: state, notifications, a dead man's switch, metrics and the audit log."""
