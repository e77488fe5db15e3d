"""The engine of one machine and plain files: a log, a canonical file and their compaction."""
