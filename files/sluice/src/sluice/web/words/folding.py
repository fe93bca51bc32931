"""How texts are compared when somebody searches or sorts: without capitals and accents. Pure.

Both databases would do it differently: SQLite knows the capitals of ASCII alone, PostgreSQL those of the
language that it was set up with.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable

# Accents of Latin, Greek and Cyrillic letters. Japanese marks of voice, which make another letter, are not
# among them.
_ACCENTS = re.compile("[\u0300-\u036f]+")


def folded(text: str) -> str:
    """Return the form in which texts are compared: Müller, MÜLLER and muller have the same one."""
    if text.isascii():
        return text.lower()
    parts = unicodedata.normalize("NFKD", text.casefold())
    return unicodedata.normalize("NFC", _ACCENTS.sub("", parts))


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that is most like `name`; "" if none is like it."""
    by_form = {folded(one): one for one in sorted(known)}
    found = difflib.get_close_matches(folded(name), by_form, n=1)
    return by_form[found[0]] if found else ""
