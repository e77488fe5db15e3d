"""What the value of an HTTP header may hold: a record keeps two of them, and whoever sends them on relies on it."""

from __future__ import annotations

import re

HEADER_VALUE = re.compile(r"(?:[!-~\xa0-\xff](?:[\t -~\xa0-\xff]*[!-~\xa0-\xff])?)?")
