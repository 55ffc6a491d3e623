"""Recover a stack whose engine was killed."""
