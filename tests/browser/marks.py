"""The marks that modules of browser tests carry."""

from __future__ import annotations

import pytest

# Tests of what the stub of the site on this machine does: without it they fail.
ON_STUB = [pytest.mark.browser, pytest.mark.integration, pytest.mark.usefixtures("stub")]
