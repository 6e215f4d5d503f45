"""What a predictor is worth when candidates are chosen by it."""
