"""Fetchers: HTTP, fsspec, and the protocol for fetchers of the user."""
