"""Register files that are already here."""
