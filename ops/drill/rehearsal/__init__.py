"""Restoring a backup of one kind into a scratch place, inside a drill."""
