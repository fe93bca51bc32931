"""Whether the server at an instance's address is that instance's job. Pure."""

from __future__ import annotations

import base64
from typing import Optional


def is_pinned(shown: Optional[bytes], certificate: str) -> bool:
    """Return whether `shown` (DER, None if the server showed none) is exactly `certificate` (PEM).

    TLS 1.3 makes the server prove that it has the certificate's key. Names and authorities do not matter.
    """
    text = "".join(certificate.splitlines()[1:-1])
    return shown is not None and base64.b64encode(shown).decode() == text
