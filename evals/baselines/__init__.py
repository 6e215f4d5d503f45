"""Every simpler way to predict a score."""
