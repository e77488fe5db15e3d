"""Loads each content exactly once into a target with transactions, such as SQLite, DuckDB or PostgreSQL.

`once` is a block that writes its rows and its mark in one transaction; `loads` and `forget` read and remove marks.
"""

from manifestlog.loading.exactly_once import Load, forget, loads, once
from manifestlog.loading.marks import TABLE, Mark

__all__ = ["TABLE", "Load", "Mark", "forget", "loads", "once"]
