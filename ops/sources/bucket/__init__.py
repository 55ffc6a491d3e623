"""The objects of a bucket as a source and as a target."""
