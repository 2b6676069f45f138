"""Images on disk -> samples -> batches."""
