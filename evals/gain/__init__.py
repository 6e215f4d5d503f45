"""What a user gets from an optimization."""
