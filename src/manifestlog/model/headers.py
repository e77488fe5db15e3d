"""The valid characters of an HTTP header value. A record stores two header values, which later requests send."""

from __future__ import annotations

import re

HEADER_VALUE = re.compile(r"(?:[!-~\xa0-\xff](?:[\t -~\xa0-\xff]*[!-~\xa0-\xff])?)?")
