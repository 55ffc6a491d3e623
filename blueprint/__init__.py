"""Plain data of an environment: what it asks for, what it gives back, what it costs. No resource, no I/O."""
