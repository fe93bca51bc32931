"""The site's personas: settings that users choose by name on the chat page. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sluice.contracts.values import MODEL_NAME
from sluice.web.words import labels

MOST_PERSONAS = 200
MOST_NAME = 100
MOST_DESCRIPTION = 1_000
MOST_SYSTEM = 20_000

# The bounds of OpenAI's API.
_BOUNDS = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "max_tokens": (1, 10_000_000),
    "seed": (0, (1 << 31) - 1),
}


@dataclass(frozen=True)
class SitePersona:
    """A name and the settings behind it; "" and None are left to the user and the model.

    `system`: what the model is told before the conversation. `model`: the model that it was made for, which
    the page offers and never switches to by itself.
    """

    name: str
    system: str = ""
    description: str = ""
    model: str = ""
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None


def personas_problem(personas: Sequence[SitePersona]) -> str:
    """Return what is wrong with the personas, as in "[0].name: …", or ""."""
    if len(personas) > MOST_PERSONAS:
        return f": at most {MOST_PERSONAS}; users would not find theirs in a longer list"
    names = [persona.name for persona in personas]
    for index, persona in enumerate(personas):
        if persona.name in names[:index]:
            return f"[{index}].name: {persona.name!r} is the name of another persona too"
        for problem in _problems(persona):
            return f"[{index}].{problem}"
    return ""


def _problems(persona: SitePersona) -> Iterator[str]:
    wrong = labels.problem(persona.name, MOST_NAME)
    if wrong or persona.name != persona.name.strip():
        yield f"name: must be one line of 1 to {MOST_NAME} visible characters ({wrong or 'blanks at an end'})"
    for name, text, most in (
        ("description", persona.description, MOST_DESCRIPTION),
        ("system", persona.system, MOST_SYSTEM),
    ):
        # Line breaks and tabs are part of a longer text.
        plain = text.translate({10: " ", 13: " ", 9: " "})
        wrong = labels.problem(plain, most) if plain.strip() else ""
        if wrong:
            yield f"{name}: must have at most {most} characters, all of them visible ({wrong})"
    if persona.model and not MODEL_NAME.fullmatch(persona.model):
        yield f"model: {persona.model!r} is not a model's name; omit it to suggest none"
    numbers = {name: getattr(persona, name) for name in _BOUNDS}
    for name, (least, most) in _BOUNDS.items():
        value = numbers[name]
        if value is not None and not (math.isfinite(value) and least <= value <= most):
            yield f"{name}: must be from {least} to {most}; omit it to leave it to the model"
    if not persona.system.strip() and not persona.model and set(numbers.values()) == {None}:
        yield "system: give system, model or a number; without one the persona would change nothing"
