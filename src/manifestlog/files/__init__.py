"""Files, whoever keeps something in them: the operating system's calls, and how a file comes to its name."""
