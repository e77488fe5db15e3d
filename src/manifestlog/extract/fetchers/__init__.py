"""How a source is asked and its body read, one module a transport."""
