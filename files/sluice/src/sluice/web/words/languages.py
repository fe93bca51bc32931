"""The languages of the pages."""

from __future__ import annotations

# Each with its own name for itself.
LANGUAGES = {"en": "English", "de": "Deutsch", "ja": "日本語"}
DEFAULT = "en"
