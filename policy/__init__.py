"""What a preview must hold to before it may become an environment: pure functions over `pulumi preview --json`."""
