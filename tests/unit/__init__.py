"""One file for each module that can be asked without a manifest around it."""
