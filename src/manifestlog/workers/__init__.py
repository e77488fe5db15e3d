"""Worker processes: the pool, the link to the parent, and the stop request."""
