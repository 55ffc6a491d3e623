"""Stand-ins for three official Pulumi plugins, used only where those cannot be had.

`bin/` holds the executables that the engine finds on PATH. They hold no behaviour of DigitalOcean: a table says which
REST calls a resource makes, in the order and with the bodies of the official provider (pulumi-digitalocean 4.84), and
everything else is the API's.
"""
