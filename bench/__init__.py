"""Measurements that a reader can repeat: each folder is one question, one command, one page of results."""
