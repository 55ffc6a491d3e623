"""One module a concern of a droplet: `ensure` returns the steps that set it up, `absent` those that switch it off.

A module sees its own group of `MachineSettings` and the base, nothing else. `absent` stops and disables; it never
deletes data, and says where it lies.
"""
