"""Numbers from scores and truth, with intervals; no files, runs or command line."""
