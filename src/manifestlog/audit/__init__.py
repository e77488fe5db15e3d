"""Data files compared with the manifest."""
