"""The verbs, one per file: arguments, a library call, output."""
