"""Day two: back up, restore, drill, deploy and look around."""

VERSION = "0.1.0.dev0"
"""Of Ancla; not released yet. `CHANGELOG.md` says what a version holds."""
