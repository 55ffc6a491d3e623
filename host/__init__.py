"""Configure a droplet: a plan of steps, taken over SSH by pyinfra. Only the base, never the app.

Called as a process (`python3 -m host first-contact|converge|ops|grants|plan`): one JSON document on stdin, one on
stdout, progress on stderr. Secrets come on stdin and leave on the stdin of a remote command, never in arguments or
logs.

`bases.py` has a row for each distribution, `concerns/` one module for each part of a droplet, `plan.py` their order.
`steps.py` and `services.py` have the kinds of steps, `look.py` the one question that answers all of them, `converge.py`
the connection. Everything but the last is pure.
"""
