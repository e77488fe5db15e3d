"""The command line: one verb a file, put together in `app`; nothing of the library depends on it."""
