"""The command over shards: what is asked, what is found, and what the page says."""
