"""Attention maps of a denoising step, taken while the model's output stays bit-identical."""
