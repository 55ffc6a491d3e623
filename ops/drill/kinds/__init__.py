"""Drills of backups that are not ours: the provider's restore points, pgBackRest's."""
