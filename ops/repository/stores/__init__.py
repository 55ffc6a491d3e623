"""Where backups lie: one module a kind."""
