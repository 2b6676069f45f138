"""Methods that the diffusion model is measured against, in the same table."""
