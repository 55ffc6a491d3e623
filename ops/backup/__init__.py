"""Making and finding restore points."""
