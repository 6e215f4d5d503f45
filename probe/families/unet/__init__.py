"""Families whose denoiser is a UNet with cross-attention."""
