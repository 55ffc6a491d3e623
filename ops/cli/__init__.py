"""The command line: options, printing, exit codes. One file a top-level verb; nothing imports it."""
