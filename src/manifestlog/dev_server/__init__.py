"""A PostgreSQL server for development: its data are in one directory, and it ends with its `with` block.

`serving` starts one, and `DevServer` says how to connect to it.
"""

from manifestlog.dev_server.server import DevServer, serving

__all__ = ["DevServer", "serving"]
