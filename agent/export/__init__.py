"""Exports of past runs for other trainers."""
