"""Image files: PNGs that record how they were made, contact sheets and heat maps."""
