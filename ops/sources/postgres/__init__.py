"""Back up and restore PostgreSQL databases with PostgreSQL's own tools."""
