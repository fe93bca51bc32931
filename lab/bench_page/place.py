"""Where the page is measured: the site of the browser tests behind nginx with the role's configuration."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, StorageState

from lab.bench.stack import Nginx
from tests.browser.chromium import Target, launched, pin
from tests.browser.loopback import Site, running_site
from tests.browser.profiles import Profiles
from tests.browser.tab import Tab
from tests.integration.stand import prepare

# What the stub serves beside the API: a page of one text field.
BARE = "/v1/bare"


@dataclass(frozen=True)
class Place:
    """A browser, and the site behind nginx. `quick` asks for short runs."""

    browser: Browser
    profiles: Profiles
    cookies: StorageState
    quick: bool

    def signed_in(self) -> Tab:
        """Open a tab, on no page yet, in an empty profile in which alice has signed in."""
        return self.profiles(storage_state=self.cookies)

    def rounds(self, number: int) -> range:
        """Return so many rounds, or two of them."""
        return range(2 if self.quick else number)


@contextlib.contextmanager
def running(folder: Path, *, quick: bool) -> Iterator[Place]:
    """Run everything; nginx stands in front of the same sockets as the stub's own front.

    alice signs in at the stub's front. Cookies know no ports: she is signed in behind nginx too.
    """
    prepare()
    folder.chmod(0o755)
    with contextlib.ExitStack() as ending:
        site = ending.enter_context(running_site(folder / "site"))
        nginx = Nginx(folder / "nginx")
        ending.callback(nginx.stop)
        nginx.start(_open_to_all(site), folder / "no-log", {"nginx_web_socket": str(site.web_socket)})
        direct = Target(site.url, site.issuer, site.ca_file, site.accounts)
        target = dataclasses.replace(direct, url=f"https://127.0.0.1:{nginx.port}")
        pins = [*direct.pins(), pin(target.url, nginx.certificate)]
        browser = ending.enter_context(launched(pins))
        cookies: dict[str, StorageState] = {}
        first = Profiles(browser, direct, None, cookies)
        first("alice")
        first.end(failed=False)
        profiles = Profiles(browser, target, None, cookies)
        ending.callback(profiles.end, failed=False)
        yield Place(browser, profiles, cookies["alice"], quick)


def _open_to_all(site: Site) -> Path:
    """Let nginx's worker, an account of its own, to the sockets; return the stub's."""
    for path in (site.folder, site.web_socket.parent):
        path.chmod(0o755)
    for path in (site.web_socket, site.stub_socket):
        path.chmod(0o666)
    return site.stub_socket
