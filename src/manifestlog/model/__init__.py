"""What a record is and what a write means: no files, no locks."""
