"""Weakly supervised maps of where the disease is.

From images that are only called healthy or diseased: encode an image into noise, decode it towards
"healthy", and subtract (Wolleb, Bieder, Sandkuehler, Cattin, MICCAI 2022).
"""
