"""The network that predicts scores, its calibration, its card and its files."""
