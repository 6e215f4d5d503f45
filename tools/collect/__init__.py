"""Rollouts to learn from: prompts x seeds, looked at, rendered and scored."""
