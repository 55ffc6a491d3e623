"""Create, verify and prune backups."""
