"""A virtual stain: H&E to HER2 immunohistochemistry, from paired patches to whole slides."""
