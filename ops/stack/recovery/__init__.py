"""Recovering a stack whose engine was killed."""
