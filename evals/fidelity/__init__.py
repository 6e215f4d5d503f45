"""How well a look at the first steps predicts the finished image."""
