"""Back up and restore the objects of a bucket."""
