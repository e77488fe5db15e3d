"""The configuration of `extract`: read, checked, turned into sources."""
