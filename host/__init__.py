"""What a machine must become: pyinfra operations over SSH, one small module a concern. The base only, never the app.

Called as a process (`python3 -m host first-contact|converge|grants`): one JSON document on stdin, one on stdout,
progress on stderr. Secrets come on stdin and leave on the stdin of a remote command: never in arguments or logs.
"""
