"""The real parts behind the API: droplets, databases, Spaces, the registry, DNS. Each is a labelled container."""
