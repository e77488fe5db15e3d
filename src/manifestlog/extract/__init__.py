"""The extract step: a list of remote sources, fetched by many processes that share one manifest."""
