"""What people of each language have written and been answered, as texts/LANGUAGE.json has it. Pure."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

from sluice.web.words.languages import LANGUAGES

TEXTS = Path(__file__).parent / "texts"
DAY = 86_400_000
# Days since each conversation was used: the list has a heading for each of several times.
AGES = (0, 0.01, 0.03, 1, 1.2, 4, 5, 12, 19, 45)
# The numbers of those that lie in a folder, and its number.
SHELVED = {2: 0, 5: 0, 9: 1}
PINNED = (1,)


def said(language: str) -> dict[str, Any]:
    """Return the texts of a language."""
    found: dict[str, Any] = json.loads((TEXTS / f"{language}.json").read_text(encoding="utf-8"))
    return found


def answers() -> dict[str, dict[str, str]]:
    """Return what the stub answers, by question and model, in all languages."""
    found: dict[str, dict[str, str]] = {}
    for language in LANGUAGES:
        texts = said(language)
        found[texts["question"]] = {"": texts["answer"]}
        found[texts["diagram_question"]] = {"": texts["diagram_answer"]}
        first, second = texts["side_answers"]
        found[texts["side_question"]] = {"": first, SECOND: second}
    return found


SECOND = "llama-3.3-70b"


def rows(language: str, now: int) -> dict[str, list[dict[str, Any]]]:
    """Return what a browser has stored after some weeks, by table; `now` in milliseconds."""
    texts = said(language)
    folders = [
        {"id": _id(language, "folder", at), "name": name, "created": now - DAY * 60}
        for at, name in enumerate(texts["folders"])
    ]
    conversations, messages = [], []
    for at, title in enumerate(texts["conversations"]):
        id = _id(language, "conversation", at)
        used = now - int(AGES[at] * DAY)
        turns = [
            _message(id, number, content, used)
            for number, content in enumerate((texts["question"], texts["answer"]) if at == 0 else (title, ""))
        ]
        shelf = SHELVED.get(at)
        conversations.append(
            {
                "id": id,
                "title": title,
                "titled": "own",
                "created": used,
                "updated": used,
                "model": "qwen3-32b",
                "leaf": turns[-1]["id"],
                "pinned": at in PINNED,
                "folder": "" if shelf is None else folders[shelf]["id"],
                "settings": {},
            }
        )
        messages += turns
    personas = [
        {
            "id": _id(language, "persona", 0),
            "name": texts["personas"][0]["name"],
            "description": texts["personas"][0]["description"],
            "settings": {"system": texts["personas"][0]["system"], "temperature": 0.2},
            "created": now,
        }
    ]
    prompts = [
        {"id": _id(language, "prompt", at), "created": now, **one} for at, one in enumerate(texts["prompts"])
    ]
    return {
        "conversations": conversations,
        "messages": messages,
        "folders": folders,
        "personas": personas,
        "prompts": prompts,
    }


def conversation(language: str) -> str:
    """Return the path of the conversation about the heat equation."""
    return f"/c/{_id(language, 'conversation', 0)}"


def _id(language: str, kind: str, number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{language} {kind} {number}"))


def _message(conversation: str, number: int, content: str, at: int) -> dict[str, Any]:
    made: dict[str, Any] = {
        "id": f"{conversation}:{number}",
        "conversation": conversation,
        "parent": f"{conversation}:{number - 1}" if number else "",
        "role": "assistant" if number else "user",
        "content": content,
        "created": at,
        "state": "done",
        "model": "qwen3-32b" if number else "",
    }
    if number:
        made["usage"] = {"prompt_tokens": 61, "completion_tokens": 318, "milliseconds": 6_240}
    return made


def site_personas(language: str) -> dict[str, Any]:
    """Return what the page gets when it asks for the site's personas."""
    return {"personas": said(language)["personas"][1:]}
