"""The file engine: a manifest in plain files on one machine, as a log and a canonical file."""
