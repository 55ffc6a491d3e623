"""What drills leave: signed documents, their chain, and a page for people."""
