"""The backing disk beside its bytes: when it appears, and what it is made of."""
