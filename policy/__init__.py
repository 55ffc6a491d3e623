"""Check a preview against the policy before it is applied: pure functions over `pulumi preview --json`."""
