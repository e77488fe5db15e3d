"""What the command line prints: lines, tables, progress."""
