"""Judges of finished images."""
