"""Ready pieces that use a new key from the programs people have: copied once, they work. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

# Where a model's name goes: no address, key or program has this character.
_MODEL = "\ue000"

_CURL = """curl -sS {url}/chat/completions -H @- <<< "Authorization: Bearer {key}" \\
  -H "Content-Type: application/json" \\
  -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'"""

_PYTHON = """from openai import OpenAI

client = OpenAI(base_url="{url}", api_key="{key}")
answer = client.chat.completions.create(
    model="{model}",
    messages=[{{"role": "user", "content": "Hello!"}}],
)
print(answer.choices[0].message.content)"""

_JAVASCRIPT = """import OpenAI from "openai";

const client = new OpenAI({{ baseURL: "{url}", apiKey: "{key}" }});
const answer = await client.chat.completions.create({{
  model: "{model}",
  messages: [{{ role: "user", content: "Hello!" }}],
}});
console.log(answer.choices[0].message.content);"""

_POWERSHELL = """$headers = @{{ Authorization = "Bearer {key}" }}
$body = @{{
  model = "{model}"
  messages = @(@{{ role = "user"; content = "Hello!" }})
}} | ConvertTo-Json -Depth 4
$answer = Invoke-RestMethod -Method Post -Uri "{url}/chat/completions" `
  -Headers $headers -ContentType "application/json" -Body $body
$answer.choices[0].message.content"""

_OPEN_WEBUI = """OPENAI_API_BASE_URL="{url}"
OPENAI_API_KEY="{key}"
DEFAULT_MODELS="{model}\""""

# By the end of their text's key (`keys.piece_…`); the names are those of the programs.
_PROGRAMS = (
    ("curl", "curl", _CURL),
    ("python", "Python", _PYTHON),
    ("javascript", "JavaScript", _JAVASCRIPT),
    ("powershell", "PowerShell", _POWERSHELL),
    ("open_webui", "Open WebUI", _OPEN_WEBUI),
)


@dataclass(frozen=True)
class Piece:
    """A piece for one program; the model's name goes between its `parts`."""

    id: str
    name: str
    parts: Sequence[str]

    def text(self, model: str) -> str:
        """Return the piece for a model."""
        return model.join(self.parts)


def of_key(url: str, key: str) -> list[Piece]:
    """Return all pieces for a key and the API's address, such as https://llm.example.org/v1."""
    # JSON's form is that of a text in each of these languages. Addresses and keys have nothing to escape.
    written = {"url": json.dumps(url)[1:-1], "key": key, "model": _MODEL}
    return [Piece(id, name, template.format(**written).split(_MODEL)) for id, name, template in _PROGRAMS]
