"""Map a stack to its database servers, backup sets and stores."""
