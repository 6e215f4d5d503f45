"""Families whose denoiser is a transformer."""
