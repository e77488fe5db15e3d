"""Bytes on disk: the file formats, and the only modules that touch the operating system."""
