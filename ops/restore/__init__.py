"""Restore a backup into a new place, and swap it with the live database."""
