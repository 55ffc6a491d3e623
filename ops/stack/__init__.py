"""What a stack says: its outputs, its droplet by SSH, the cloud's API; beginning and recovering one."""
