"""Files, for every part of the package: calls to the operating system, and publishing a file under its name."""
