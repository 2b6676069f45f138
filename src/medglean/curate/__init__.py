"""Which images to label first: embed them, rank them, and prove what that saves."""
