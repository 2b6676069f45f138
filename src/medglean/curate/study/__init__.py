"""The paper's experiment: what a curated subset teaches, beside random ones and all images."""
