"""Store objects: one module per kind of store."""
