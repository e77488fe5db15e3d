"""The output of the command line: lines, tables, progress."""
