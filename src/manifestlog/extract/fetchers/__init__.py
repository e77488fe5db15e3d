"""Fetchers: HTTP, fsspec, and the protocol for the user's own fetchers."""
