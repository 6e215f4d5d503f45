"""How well the first steps predict the finished image."""
