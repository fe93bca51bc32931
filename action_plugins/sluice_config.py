"""Ansible action: check a configuration file's content with the code that will read it on the host.

    sluice_config:
      part: web
      content: "{{ lookup('ansible.builtin.template', 'web.json.j2') }}"

A wrong file is refused before any host is touched. It runs on the controller, with this checkout's copy of
the code, and writes nothing. Its messages name keys, and never values of secrets.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

SOURCE = Path(__file__).resolve().parents[1] / "files" / "sluice" / "src"


def problem(part: str, content: object, logo: str = "") -> str:
    """Return why the part's own loader refuses the file, or "" if it accepts it.

    `content`: the file's text, or what Ansible has made of text that is JSON. `logo`: the path of the site's
    logo on the controller, which the part will also read.
    """
    text = content if isinstance(content, str) else json.dumps(content)
    # The package is not installed on the controller: this checks with the code that will be rolled out.
    sys.path.insert(0, str(SOURCE))
    try:
        from sluice.errors import ConfigError

        check = _loaders()[part]
        wrong = _logo_problem(logo) if logo else ""
    finally:
        sys.path.remove(str(SOURCE))
    if wrong:
        return f"web_site_logo: {logo} {wrong}."
    source = f"/etc/sluice/{part}.json, as this inventory makes it"
    try:
        check(json.loads(text), source)
    except ConfigError as error:
        return (
            f"{error.message}. It comes from a variable {part}_…: correct that in the inventory's group_vars."
        )
    except ValueError as error:
        return f"{source}: not JSON ({error})"
    return ""


def _logo_problem(path: str) -> str:
    from sluice.web.settings import branding

    try:
        return branding.logo_problem(Path(path).read_bytes())
    except OSError as error:
        return f"cannot be read ({error.strerror}); name a file on the controller"


def _loaders() -> dict[str, Callable[[object, str], object]]:
    from sluice import config
    from sluice.proxy import config as proxy
    from sluice.relay import config as relay
    from sluice.scheduler import config as scheduler
    from sluice.web.settings import config as web

    return {
        "proxy": lambda document, source: proxy.check(
            config.parse(proxy.ProxyConfig, document, source), source
        ),
        "relay": lambda document, source: relay.check(
            config.parse(relay.RelayConfig, document, source), source
        ),
        "scheduler": lambda document, source: config.parse(scheduler.SchedulerConfig, document, source),
        "web": lambda document, source: web.check(config.parse(web.WebConfig, document, source), source),
    }


class ActionModule(ActionBase):
    """The action; it fails with the loader's message."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check the content."""
        super().run(tmp, task_vars)
        args = self._task.args
        found = problem(str(args["part"]), args["content"], str(args.get("logo", "")))
        return {"failed": True, "msg": found} if found else {"changed": False}
