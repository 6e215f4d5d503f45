"""What a predictor is worth for choosing candidates."""
