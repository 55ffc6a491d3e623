"""Putting a backup back into a new place, and putting that in the place of the live database."""
