"""PostgreSQL servers that live as long as a drill."""
