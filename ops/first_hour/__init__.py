"""The first hour with a real account: what only an account can answer, asked in order, and the answers kept."""
