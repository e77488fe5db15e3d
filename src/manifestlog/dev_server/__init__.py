"""A PostgreSQL server for development, for users who have none: its data are one directory, and it ends with its block.

`serving` starts one, and `DevServer` says how to reach it.
"""

from manifestlog.dev_server.server import DevServer, serving

__all__ = ["DevServer", "serving"]
