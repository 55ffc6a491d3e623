"""Drive pgBackRest for physical backups and point-in-time recovery of a self-managed PostgreSQL server."""
