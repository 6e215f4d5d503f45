"""Rollouts (prompts x seeds, traced, rendered and scored), and probes trained on them."""
