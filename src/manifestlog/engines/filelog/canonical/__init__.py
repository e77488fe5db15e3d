"""The canonical file and its index."""
