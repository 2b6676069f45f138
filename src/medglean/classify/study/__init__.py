"""Experiments about classifiers: a network beside its floor, and the 2022 report of three sets."""
