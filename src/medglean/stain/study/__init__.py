"""The study of H&E to HER2 on BCI: methods and ablations beside one another on the same pairs."""
