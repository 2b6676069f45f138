"""What will be done (preset), what was done (run folder), and what it came to (report)."""
