"""Who judges finished images."""
