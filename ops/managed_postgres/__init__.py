"""Use the provider's own restore points of a managed PostgreSQL: list them, and restore one into a fork."""
