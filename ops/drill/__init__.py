"""Proof that a restore point restores."""
