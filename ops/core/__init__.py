"""Shared helpers that know nothing about Ancla: errors, console, progress, files, signatures."""
