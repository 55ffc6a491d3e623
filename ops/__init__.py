"""Day two: back up, restore, drill, deploy and look around."""
