"""The pictured site: a research centre's, with a stub in the place of its cluster."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from demo.bed import packages
from lab.screenshots import said
from lab.screenshots.people import PROJECTS
from tests.browser.chromium import CHROMIUM
from tests.browser.loopback import Site, running_site

NAME = "Northfield AI"
# A model of each kind that a site has, and one outside of it.
MODELS: tuple[dict[str, Any], ...] = (
    {"id": "qwen3-32b", "status": "ready", "context_length": 40_960, "capabilities": ["chat", "responses"],
     "description": "General purpose, good at reasoning"},
    {"id": "llama-3.3-70b", "status": "ready", "context_length": 131_072, "capabilities": ["chat"],
     "description": "Long documents, many languages"},
    {"id": "gemma-3-27b", "status": "ready", "context_length": 131_072, "capabilities": ["chat", "vision"],
     "description": "Reads images"},
    {"id": "qwen3-coder-30b", "status": "sleeping", "context_length": 262_144, "capabilities": ["chat"],
     "description": "Code"},
    {"id": "mistral-small-24b", "status": "starting", "context_length": 32_768, "capabilities": ["chat"],
     "expected_in": 95, "description": "Fast answers"},
    {"id": "qwen3-embedding", "status": "ready", "context_length": 32_768, "capabilities": ["embeddings"],
     "description": "Vectors for search"},
    {"id": "gpt-large", "status": "ready", "context_length": 400_000, "capabilities": ["chat", "vision"],
     "external": True, "provider": "Example Cloud", "region": "Frankfurt"},
)  # fmt: skip
# The interface's own font is the reader's: without these, Debian has one for old screens.
FONTS = {"fonts-inter": "Inter", "fonts-noto-cjk": "Noto Sans CJK JP"}
FONT_RULES = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
  <include>/etc/fonts/fonts.conf</include>
  {rules}
</fontconfig>
"""
FONT_RULE = """<match target="pattern">
    <test name="family"><string>{family}</string></test>
    <edit name="family" mode="prepend" binding="strong">
      <string>Inter</string><string>Noto Sans CJK JP</string>
    </edit>
  </match>"""
IMPRINT = {
    "en": "Northfield Research Centre, Computing Department\n\n"
    "1 Observatory Road, Northfield\n\n[ai-support@example.org](mailto:ai-support@example.org)",
    "de": "Northfield Research Centre, Abteilung Rechenzentrum\n\n"
    "1 Observatory Road, Northfield\n\n[ai-support@example.org](mailto:ai-support@example.org)",
    "ja": "Northfield Research Centre 計算機部門\n\n"
    "1 Observatory Road, Northfield\n\n[ai-support@example.org](mailto:ai-support@example.org)",
}
PRIVACY = {
    "en": "Your conversations stay in your browser. We count requests and tokens, never words.\n\n"
    "- Counts are kept for 180 days.\n- Models run on our own cluster, unless marked as external.",
    "de": "Ihre Unterhaltungen bleiben in Ihrem Browser. Wir zählen Anfragen und Tokens, nie "
    "Wörter.\n\n- Zahlen bewahren wir 180 Tage auf.\n- Modelle laufen auf unserem Cluster, außer den als "
    "extern markierten.",
    "ja": "会話はお使いのブラウザにだけ保存されます。要求とトークンの数は数えますが、内容は記録しません。\n\n"
    "- 数は 180 日間保存します。\n- 外部と表示されたもの以外、モデルは当センターのクラスタで動きます。",
}


def prepare(folder: Path) -> None:
    """Install what the pictures need, and have browsers of this process use these fonts."""
    packages.ensure({CHROMIUM: "chromium", "fc-list": "fontconfig"})
    missing = [package for package, family in FONTS.items() if not _has_font(family)]
    if missing:
        print(f"[prepare] installing {' '.join(missing)}", flush=True)
        packages.install(missing)
    rules = "\n  ".join(FONT_RULE.format(family=one) for one in ("system-ui", "sans-serif"))
    config = folder / "fonts.conf"
    config.write_text(FONT_RULES.format(rules=rules))
    os.environ["FONTCONFIG_FILE"] = str(config)


def _has_font(family: str) -> bool:
    listed = subprocess.run(["fc-list", family], capture_output=True, text=True, check=True)
    return bool(listed.stdout.strip())


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Site]:
    """Run the site in an empty folder."""
    web = {
        "branding": {"name": NAME, "imprint": IMPRINT, "privacy": PRIVACY},
        "limits": [
            {"scope": "user:*", "tokens_per_day": 2_000_000, "requests_per_minute": 60},
            {"scope": "project:*", "tokens_per_day": 50_000_000},
        ],
        "access": {"admins": ["admins"], "users": ["users"], "projects": {**PROJECTS, "climate": ["users"]}},
    }
    front = {"models": list(MODELS), "answers": said.answers()}
    with running_site(folder, changes={"web": web, "front": front}) as site:
        yield site
