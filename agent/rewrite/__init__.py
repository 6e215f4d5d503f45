"""Proposes rewrites of a brief, and checks them."""
