"""The configuration of `extract`: parsing, validation and sources."""
