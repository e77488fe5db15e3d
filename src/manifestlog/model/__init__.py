"""The data model: records, and the meaning of writes. No files, no locks."""
