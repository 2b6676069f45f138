"""The shortcut audit of a classifier: what cannot see the disease, measured beside it."""
