"""What lies in a bucket: stores, manifests, the catalog, and the way in and out."""
