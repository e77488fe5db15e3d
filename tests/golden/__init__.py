"""Directories written by released formats, committed as bytes: they must open for ever."""
