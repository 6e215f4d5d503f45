"""What other trainers read of past runs."""
