"""The judges of Sprites pictures."""
