"""What is backed up: one module a kind."""
