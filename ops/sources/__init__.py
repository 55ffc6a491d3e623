"""Back up and restore each kind of source: one module per kind."""
