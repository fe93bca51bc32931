"""A person at a real browser: Debian's headless Chromium, driven through its driver.

Everything is found as a person finds it: by what is on the page, waited for, never slept for.
"""

from __future__ import annotations

import base64
import hashlib
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from selenium.common.exceptions import (
    NoAlertPresentException,
    StaleElementReferenceException,
    TimeoutException,
    WebDriverException,
)
from selenium.webdriver import Chrome, ChromeOptions, ChromeService, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

T = TypeVar("T")

CHROMIUM = "/usr/bin/chromium"
DRIVER = "/usr/bin/chromedriver"
RAMBLING = 240.0

# The last four keep Chromium from calling its maker, which a closed network only makes slow.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass(frozen=True)
class Target:
    """A site to visit: its address, its provider's, the CA of both, and accounts as login → password."""

    url: str
    issuer: str
    ca_file: Path
    accounts: Mapping[str, str]

    def pins(self) -> list[str]:
        """Return the keys of both hosts' certificates, after checking these against the CA."""
        return [_pin(url, self.ca_file) for url in (self.url, self.issuer)]


def _pin(url: str, ca_file: Path) -> str:
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or 443)
    context = ssl.create_default_context(cafile=str(ca_file))
    with (
        socket.create_connection(address, 10) as plain,
        context.wrap_socket(plain, server_hostname=address[0]) as secured,
    ):
        raw = secured.getpeercert(binary_form=True)
    key = x509.load_der_x509_certificate(raw or b"").public_key()
    info = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(info).digest()).decode()


@contextmanager
def opened(
    target: Target, profile: Path, size: tuple[int, int] = (1200, 820), tracing: bool = False
) -> Iterator[Browser]:
    """Open a browser with a new profile in `profile`, and close it at the end.

    With `tracing` its log "performance" has each task of its threads; tests/browser/tasks.py reads it.
    """
    options = ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={profile}")
    options.add_argument(f"--window-size={size[0]},{size[1]}")
    # The browser trusts exactly the certificates that were checked against the CA, and no others.
    options.add_argument("--ignore-certificate-errors-spki-list=" + ",".join(target.pins()))
    logs = {"browser": "ALL"}
    if tracing:
        logs["performance"] = "ALL"
        traced = {"traceCategories": "toplevel", "enableNetwork": False, "enablePage": False}
        options.add_experimental_option("perfLoggingPrefs", traced)
    options.set_capability("goog:loggingPrefs", logs)
    driver = Chrome(options=options, service=ChromeService(DRIVER))
    try:
        driver.set_page_load_timeout(30)
        yield Browser(driver, target)
    finally:
        driver.quit()


def _or_replaced(condition: Callable[[], T | None]) -> T | None:
    """Return what the condition gives; raise one error for elements of a page that another has replaced.

    While a page changes, Chromium's driver has an own error for them, without a class of its own.
    """
    try:
        return condition()
    except WebDriverException as error:
        if "does not belong to the document" in str(error):
            raise StaleElementReferenceException("the page was replaced") from error
        raise


class Browser:
    """What a person does with Sluice's pages. Waits end after `patience` seconds with AssertionError."""

    def __init__(self, driver: Chrome, target: Target, patience: float = 30) -> None:
        self.driver = driver
        self.target = target
        self.patience = patience
        self._answers = 0

    def forget_everything(self) -> None:
        """Be a browser that nobody has used: no cookies, no storage, one empty tab, a network."""
        first, *others = self.driver.window_handles
        for handle in others:
            self.driver.switch_to.window(handle)
            self.driver.close()
        self.driver.switch_to.window(first)
        self.online(True)
        self.driver.get("about:blank")
        self.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
        for origin in (self.target.url, self.target.issuer):
            self.driver.execute_cdp_cmd(
                "Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "all"}
            )
        self.complaints()

    # --- Signing in and out ----------------------------------------------------------------------------

    def open(self, path: str = "/") -> None:
        """Go to one of Sluice's pages."""
        try:
            self.driver.get(self.target.url + path)
        except WebDriverException as error:
            # Chromium drops what is under way when any interface of the machine comes or goes.
            if "ERR_NETWORK_CHANGED" not in str(error):
                raise
            self.driver.get(self.target.url + path)

    def sign_in(self, login: str) -> None:
        """Sign in at the provider, from the front page, and wait for the chat page."""
        self.open()
        self.find("#sign-in").click()
        self.fill_in(login)

    def fill_in(self, login: str) -> None:
        """Fill in the provider's form, and wait for the chat page."""
        self.find("#login").send_keys(login)
        self.find("#password").send_keys(self.target.accounts[login])
        self.find("#submit").click()
        self.find("#sign-out")

    def sign_out(self) -> None:
        """Sign out here and at the provider, and wait for the page that says so."""
        self.find("#sign-out").click()
        self.find("#confirm").click()
        self.wait(lambda: "/auth/signed-out" in self.driver.current_url and self.all("#sign-in"))

    # --- Chatting --------------------------------------------------------------------------------------

    def wait_for_models(self) -> list[str]:
        """Wait until models are offered; return their names."""
        return self.wait(lambda: [str(option.get_attribute("value")) for option in self.all("#model option")])

    def choose_model(self, name: str) -> None:
        """Choose a model by name."""
        self.wait_for_models()
        self.find(f'#model option[value="{name}"]').click()

    def ask(self, question: str) -> None:
        """Type a question and send it with Enter."""
        self.wait_for_models()
        self._answers = len(self.all(".message.assistant"))
        self.find("#input").send_keys(
            question.replace("\n", Keys.SHIFT + Keys.ENTER + Keys.SHIFT), Keys.ENTER
        )

    def ask_again(self) -> None:
        """Press the button that has the last answer made anew."""
        buttons = self.all('.message.assistant .tools [aria-label="Answer again"]')
        self._answers = len(self.all(".message.assistant")) - 1
        buttons[-1].click()

    def answer(self) -> str:
        """Return what there is of the last answer."""
        answers = self.all(".message.assistant .body")
        return answers[-1].text if answers else ""

    def finished_answer(self) -> str:
        """Wait for the answer to what was asked last to be complete; return it."""
        # A small model that rambles fills its whole context: minutes, on a busy processor.
        self.wait(
            lambda: len(self.all(".message.assistant")) > self._answers and not self.is_writing(), RAMBLING
        )
        return self.wait(self.answer)

    def stop(self) -> None:
        """Press the stop button."""
        self.find("#stop").click()

    def is_writing(self) -> bool:
        """Tell whether an answer is under way."""
        return bool(self.all(".message.busy"))

    # --- Keys ------------------------------------------------------------------------------------------

    def make_key(self, name: str) -> str:
        """Make an API key on the keys page and return it."""
        self.open("/keys")
        self.find("#key-name").send_keys(name)
        self.find("#make-key").click()
        return self.find("#new-key").text

    def key_names(self) -> list[str]:
        """Return the names of the keys that work, as the keys page lists them."""
        return [cell.text for cell in self.all("#live-keys tbody th")]

    def revoke_key(self, name: str) -> None:
        """Revoke a key by its name, and say yes to the question."""
        self.find(f'form[data-revoke="{name}"] button').click()
        self.wait(self._accept)
        self.wait(lambda: name not in self.key_names())

    def _accept(self) -> bool:
        try:
            self.driver.switch_to.alert.accept()
        except NoAlertPresentException:
            return False
        return True

    # --- The world around ------------------------------------------------------------------------------

    def online(self, online: bool) -> None:
        """Give the browser a network, or take it away."""
        conditions = {"offline": not online, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self.driver.execute_cdp_cmd("Network.enable", {})
        self.driver.execute_cdp_cmd("Network.emulateNetworkConditions", conditions)

    # --- Looking ---------------------------------------------------------------------------------------

    def find(self, selector: str) -> WebElement:
        """Wait for an element that can be seen and return it."""
        return self.wait(lambda: next((one for one in self.all(selector) if one.is_displayed()), None))

    def all(self, selector: str) -> list[WebElement]:
        """Return what matches right now."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def wait(self, condition: Callable[[], T | None], patience: float | None = None) -> T:
        """Wait until `condition` gives something; elements that the page replaced meanwhile are no error."""
        replaced = [StaleElementReferenceException]
        waiting: Any = WebDriverWait(self.driver, patience or self.patience, 0.1, replaced)
        try:
            found: T = waiting.until(lambda _driver: _or_replaced(condition))
        except TimeoutException:
            shown = " ".join(card.text for card in self.all(".problem"))
            raise AssertionError(
                f"not seen within {patience or self.patience} s at {self.driver.current_url}; "
                f"the page says: {shown!r}; the console: {self.complaints()}"
            ) from None
        return found

    def screenshot(self, path: Path) -> None:
        """Keep a picture of what is to be seen."""
        self.driver.save_screenshot(str(path))

    def run(self, script: str, *arguments: object) -> Any:
        """Run a script of an async function's body in the page and return what it gives."""
        wrapped = (
            "const done = arguments[arguments.length - 1];"
            "const given = Array.from(arguments).slice(0, -1);"
            f"(async (...arguments_) => {{ {script} }})(...given)"
            ".then((value) => done([value, null]), (error) => done([null, String(error)]));"
        )
        value, error = self.driver.execute_async_script(wrapped, *arguments)
        assert error is None, error
        return value

    def complaints(self) -> list[str]:
        """Return what the browser's console says of errors and of breaches of the content policy."""
        # Selenium gives this one method no types.
        entries = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [str(entry["message"]) for entry in entries if entry["level"] == "SEVERE"]
