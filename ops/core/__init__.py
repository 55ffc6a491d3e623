"""What knows no concept of ours: errors, console, progress, files, signatures."""
