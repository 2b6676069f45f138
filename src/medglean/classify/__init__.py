"""Image-level classes, one or many per image."""
