"""What is wrong with the texts of the pages, and what is still to be translated: `python -m page.texts`.

`--sort` puts every language's file into the order of English.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "files/sluice/src"))

from sluice.web.words.formats import Formats
from sluice.web.words.languages import DEFAULT, LANGUAGES
from sluice.web.words.texts import Text, read

ROOT = Path(__file__).resolve().parents[1]
WEB = ROOT / "files/sluice/src/sluice/web"
SCRIPTS = ROOT / "page/src"
FILES = WEB / "words/texts"

# Keys that are composed at run time.
FAMILIES = (
    "error.",
    "validation.",
    "keys.field_",
    "keys.limit_",
    "keys.piece_",
    "site.",
    "js.status_",
    "js.can_",
    "js.theme_",
    "js.list_",
    "js.admin_",
    "js.capability_",
    "js.set_",
)

# English words that a language uses too, and texts without words.
SAME = {
    "de": {
        "Administration",
        "Browser",
        "Chat",
        "Limits",
        "Name",
        "Persona",
        "Pseudonym",
        "Text",
        "{n} min",
        "{n} s",
        "{n}/{all}",
    },
    "ja": {"{n}/{all}"},
}

_JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]|^ID$")
_PLACEHOLDER = re.compile(r"\{(\w*)\}")

Problems = Iterator[str]


def forms(text: Text) -> dict[str, str]:
    """Return what a text says, by plural form; "" for one that has none."""
    if isinstance(text, str):
        return {"": text}
    return {name: form for name, form in text.items() if name != "by"}


def placeholders(text: Text) -> set[str]:
    """Return the placeholders of a text, with the one that decides its form."""
    found = {name for form in forms(text).values() for name in _PLACEHOLDER.findall(form)}
    return found if isinstance(text, str) else found | {text["by"]}


def named() -> set[str]:
    """Return every key that is written out in code, templates and scripts."""
    found: set[str] = set()
    for path in [*WEB.rglob("*.html"), *WEB.rglob("*.py")]:
        found |= set(re.findall(r"""(?:\bt|texts\.get)\(\s*["']([\w.]+)["']""", path.read_text()))
    known = read(DEFAULT).keys()
    for path in [*SCRIPTS.rglob("*.ts"), *SCRIPTS.rglob("*.tsx")]:
        script = path.read_text()
        found |= {f"js.{key}" for key in re.findall(r'\bt\(\s*"(\w+)"', script)}
        # The compiler looks at texts that are named in another way; that it is one of ours is enough here.
        found |= {f"js.{key}" for key in re.findall(r'"(\w+)"', script)} & known
    return found


def unknown() -> Problems:
    """Tell of keys that code names and no file has."""
    for key in sorted(named() - read(DEFAULT).keys()):
        yield f"{key}: a template or script shows it, and {DEFAULT}.json has no such text: add it"


def unused() -> Problems:
    """Tell of texts that nothing shows."""
    for key in sorted(read(DEFAULT).keys() - named()):
        if not key.startswith(FAMILIES):
            yield f"{key}: nothing shows this text: remove it from every language"


def untranslated(language: str) -> Problems:
    """Tell of texts that a language lacks, has beyond English, or has in English."""
    english, own = read(DEFAULT), read(language)
    for key, text in english.items():
        if key not in own:
            yield f"{language}: {key} is missing. English: {json.dumps(text, ensure_ascii=False)}"
        elif _left_in_english(language, text, own[key]):
            yield f"{language}: {key} is not translated: {json.dumps(own[key], ensure_ascii=False)}"
    for key in own.keys() - english.keys():
        yield f"{language}: {key} is no text of {DEFAULT}.json: remove it"


def _left_in_english(language: str, english: Text, own: Text) -> bool:
    for form in forms(own).values():
        if form in SAME[language]:
            continue
        if form in forms(english).values() or (language == "ja" and not _JAPANESE.search(form)):
            return True
    return False


def misformed(language: str) -> Problems:
    """Tell of placeholders that English does not have, or that are lacking, and of wrong plural forms."""
    english, own = read(DEFAULT), read(language)
    for key, text in own.items():
        wanted, found = placeholders(english.get(key, text)), placeholders(text)
        if wanted != found:
            yield f"{language}: {key} has the placeholders {sorted(found)}, and English has {sorted(wanted)}"
        if isinstance(text, dict) and forms(text).keys() != Formats(language).forms:
            yield f"{language}: {key} needs the plural forms {sorted(Formats(language).forms)} and no others"
        if isinstance(text, str) != isinstance(english.get(key, text), str):
            yield f"{language}: {key} has plural forms in one language alone"


def problems() -> list[str]:
    """Return all that is wrong."""
    each: list[Callable[[str], Problems]] = [untranslated, misformed]
    others = [language for language in LANGUAGES if language != DEFAULT]
    return [
        *unknown(),
        *unused(),
        *misformed(DEFAULT),
        *(problem for language in others for look in each for problem in look(language)),
    ]


def sort() -> None:
    """Write every language's texts in the order of English; texts beyond English stay, at the end."""
    order = {key: at for at, key in enumerate(read(DEFAULT))}
    for language in LANGUAGES:
        texts = sorted(read(language).items(), key=lambda pair: order.get(pair[0], len(order)))
        text = json.dumps(dict(texts), ensure_ascii=False, indent=2) + "\n"
        (FILES / f"{language}.json").write_text(text, encoding="utf-8")


def main() -> int:
    """Sort if asked to, then look; return 0, or 1 when something is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sort", action="store_true", help="put the files into one order")
    if parser.parse_args().sort:
        sort()
    found = problems()
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
