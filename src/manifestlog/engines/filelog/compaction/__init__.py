"""From the log to the next canonical file."""
