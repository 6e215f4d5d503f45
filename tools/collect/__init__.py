"""Roll-outs: prompts x seeds, looked at, rendered and scored; and probes made of them."""
