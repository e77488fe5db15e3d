"""The command line: one file per verb, combined in `app`. The library does not depend on it."""
