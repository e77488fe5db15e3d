"""The write-ahead log: lines, segments and their order."""
