"""A state machine over the public API, against a model in plain dictionaries."""
