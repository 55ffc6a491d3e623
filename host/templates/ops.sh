#!/bin/sh
# Written by Ancla; changes here are undone. -P: the folder you stand in is not searched for modules.
export ANCLA_OUTPUTS="${ANCLA_OUTPUTS:-/etc/ancla/outputs.json}"
# The authorities that the machine trusts, not those that a library brings along.
export AWS_CA_BUNDLE="${AWS_CA_BUNDLE:-/etc/ssl/certs/ca-certificates.crt}"
export PYTHONPATH=/opt/ancla/lib
exec /opt/ancla/venv/bin/python -P -s -m ops "$@"
