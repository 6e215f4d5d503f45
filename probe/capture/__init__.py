"""Captures attention maps of a denoising step; the model's output stays bit-identical."""
