"""The study of Wolleb et al. 2022: methods beside one another on the same patients."""
