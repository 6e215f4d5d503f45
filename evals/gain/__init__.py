"""What a user gains from an optimization."""
