"""Access a stack: its outputs, its droplet by SSH, the cloud's API; create and recover one."""
