"""Simpler ways to predict a score."""
