#!/bin/sh
# Written by Ancla; changes here are undone. -P: the folder you stand in is not searched for modules.
export ANCLA_OUTPUTS="${ANCLA_OUTPUTS:-/etc/ancla/outputs.json}"
export PYTHONPATH=/opt/ancla/lib
exec /opt/ancla/venv/bin/python -P -s -m ops "$@"
