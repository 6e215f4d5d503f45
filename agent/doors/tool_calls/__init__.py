"""Tools for agents of any kind, their schemas, and what the owner decides."""
