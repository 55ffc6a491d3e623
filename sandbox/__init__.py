"""A DigitalOcean that fits on one machine. Imports nothing of the rooms beside it, and none of them imports it."""
