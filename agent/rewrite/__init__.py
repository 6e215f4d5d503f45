"""Where rewrites of a brief come from, and what is checked of them."""
