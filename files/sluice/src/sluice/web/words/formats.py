"""How each language writes numbers, dates and times. Times are in UTC, and say so.

The pages' scripts write the same with the browser's `Intl` (page/src/formats.ts); both follow Unicode's CLDR.
"""

from __future__ import annotations

import datetime

from babel import Locale, dates, numbers

# In English, dates have the day before the month's name, and 24 hours: nobody can misread that.
_DATES = {"en": "en_GB"}


class Formats:
    """The forms of one language, such as `en`."""

    def __init__(self, language: str) -> None:
        self._locale = Locale.parse(language)
        self._dates = Locale.parse(_DATES.get(language, language))
        self._moment = str(dates.get_datetime_format("medium", self._dates)).replace("'", "")

    def number(self, number: float) -> str:
        """Return a number with its digits in groups, such as 12,345."""
        return numbers.format_decimal(number, locale=self._locale)

    def short(self, number: float) -> str:
        """Return a number in few characters, such as 1.2K."""
        return numbers.format_compact_decimal(number, locale=self._locale, fraction_digits=1)

    def day(self, time: float) -> str:
        """Return the day of a time, such as 22 Nov 2026."""
        return self.date(_utc(time).date().isoformat())

    def date(self, text: str) -> str:
        """Return a day that is given as 2026-11-22."""
        return dates.format_date(datetime.date.fromisoformat(text), "medium", self._dates)

    def moment(self, time: float) -> str:
        """Return a time to the minute, such as 22 Nov 2026, 18:30 UTC."""
        moment = _utc(time)
        hour = dates.format_skeleton("Hm", moment, locale=self._dates)
        return self._moment.format(hour, dates.format_date(moment, "medium", self._dates)) + " UTC"

    def form(self, number: int) -> str:
        """Return the plural form that a number takes: one of `forms`."""
        return self._locale.plural_form(number)

    @property
    def forms(self) -> frozenset[str]:
        """All plural forms of the language."""
        return frozenset(self._locale.plural_form.tags | {"other"})


def _utc(time: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(time, datetime.timezone.utc)
