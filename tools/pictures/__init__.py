"""Image files: PNGs that say how they were made, contact sheets and heat maps."""
