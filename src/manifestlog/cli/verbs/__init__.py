"""The verbs, one a file: arguments, a library call, output."""
