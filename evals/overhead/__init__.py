"""What probing costs in time and memory."""
