"""`python -m bench.backup`: Ancla's backups beside the usual tools, on one machine, in one run."""
