"""Compaction: merging the log into the next canonical file."""
