"""Public data sets and common folder layouts: one file for each."""
