"""Other spellings of a field's name that some parser may read as that name."""

from __future__ import annotations

import re

from sluice.bodies.positions import NAMES

# Characters other than capitals that fold to these letters (Unicode's full case folding).
_FOLDED = {"k": "\u212a", "s": "\u017f", "ss": "\u00df\u1e9e", "st": "\ufb05\ufb06"}


def other_spellings() -> str:
    """Return an anchored regular expression for refused spellings of the names that Sluice reads."""
    exact = sorted(NAMES)
    forms = (re.sub("ss|st|[a-z]", _forms, name) for name in exact)
    return f"^(?!(?:{'|'.join(exact)})$)(?:{'|'.join(forms)})$"


def _forms(found: re.Match[str]) -> str:
    letters = found[0]
    each = "".join(f"[{one}{one.upper()}{_FOLDED.get(one, '')}]" for one in letters)
    return each if len(letters) == 1 else f"(?:{each}|[{_FOLDED[letters]}])"
