"""Readers of image files, behind one function."""
