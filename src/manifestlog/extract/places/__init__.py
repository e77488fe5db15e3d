"""Where data files go: a local directory, or an object store. `opening` chooses once; `protocol` says what both do."""
