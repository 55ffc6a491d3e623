"""Read and write the content of a backup bucket: stores, manifests, the catalog, upload and download."""
