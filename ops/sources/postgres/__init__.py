"""PostgreSQL databases as sources and as targets, by PostgreSQL's own tools."""
