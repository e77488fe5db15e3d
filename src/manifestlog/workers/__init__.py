"""Worker processes: the pool, the link to a parent, how a run is stopped."""
