"""Configure a droplet: pyinfra operations over SSH, one small module per concern. Only the base, never the app.

Called as a process (`python3 -m host first-contact|converge|grants`): one JSON document on stdin, one on stdout,
progress on stderr. Secrets come on stdin and leave on the stdin of a remote command: never in arguments or logs.
"""
