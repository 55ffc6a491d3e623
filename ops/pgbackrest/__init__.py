"""Physical backups and point-in-time recovery of a PostgreSQL server of one's own, by driving pgBackRest."""
