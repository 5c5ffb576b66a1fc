"""A headless Chromium for tests of pages: Debian's, driven by playwright.

A test that opens a page uses the fixture `chromium`:

    def test_the_page_has_a_title(chromium: Chromium, tmp_path: Path) -> None:
        with chromium.open((tmp_path / "report.html").as_uri()) as visit:
            assert visit.page.title() == "report"
            assert visit.axe() == []
        assert visit.problems() == []

playwright's interface without coroutines keeps an event loop running on the thread of the test, so
a module that uses `chromium` has no `async` tests.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import tarfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from pages import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request

WIDE = (1280, 900)
PHONE = (390, 844)
"""Sizes of windows: width and height in pixels."""
_PROGRAM = Path("/usr/bin/chromium")
_AXE = "axe-core-4.14.1.tgz"
_AXE_URL = f"https://registry.npmjs.org/axe-core/-/{_AXE}"
# "integrity" of this version in the registry, https://registry.npmjs.org/axe-core/4.14.1
_AXE_SHA512 = (
    "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
)
# The process that is asked has the lowest priority, so a machine that is busy lets it wait.
_TIMEOUT_MS = 80_000
_BLANK = "about:blank"


class Visit:
    """A page that is open in Chromium, and what went wrong in it.

    `errors` are messages of the console and exceptions that no script handled; warnings too.
    `elsewhere` are the URLs of requests to another host than the page's; any host, if the page is
    a file.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.errors: list[str] = []
        self.elsewhere: list[str] = []
        self._url = url
        self._host = urlsplit(url).netloc
        page.set_default_timeout(_TIMEOUT_MS)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", self._on_request)

    def problems(self) -> list[str]:
        """Return all errors and all requests to other hosts."""
        return [*self.errors, *(f"request to {url}" for url in self.elsewhere)]

    def axe(self) -> list[str]:
        """Return what axe-core finds inaccessible: its rule, the elements, and the reason."""
        self.evaluate(_axe_script())
        found = self.evaluate("axe.run({resultTypes: ['violations']}).then(r => r.violations)")
        return [
            f"{violation['id']}: {node['html'][:200]}: {node['failureSummary']}"
            for violation in found
            for node in violation["nodes"]
        ]

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression or its promise, whatever the page allows."""
        session = self.page.context.new_cdp_session(self.page)
        found = session.send(
            "Runtime.evaluate",
            {"expression": expression, "awaitPromise": True, "returnByValue": True},
        )
        session.detach()
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """Save a picture of the whole page."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path, full_page=True)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")

    def _on_request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if not self._host and self._url == _BLANK and request.is_navigation_request():
            self._host = parts.netloc  # the page that the test goes to
        if parts.scheme not in ("file", "data", "blob") and parts.netloc != self._host:
            self.elsewhere.append(request.url)


class Chromium:
    """A browser that is running; each page that it opens has its own cookies and storage."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser

    @contextmanager
    def open(
        self, url: str = _BLANK, *, size: tuple[int, int] = WIDE, **options: Any
    ) -> Iterator[Visit]:
        """Open a page, and close it at the end.

        `options` are those of playwright's `new_context`, such as `color_scheme="dark"`.
        """
        width, height = size
        context = self._browser.new_context(viewport={"width": width, "height": height}, **options)
        try:
            visit = Visit(context.new_page(), url)
            if url != _BLANK:
                visit.page.goto(url)
            yield visit
        finally:
            context.close()


@contextmanager
def run_chromium(program: Path = _PROGRAM) -> Iterator[Chromium]:
    """Run Chromium until the end of the block."""
    # Other Pythons run the quick tests without it.
    from playwright.sync_api import sync_playwright

    # Chromium's sandbox does not work for root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        try:
            yield Chromium(browser)
        finally:
            browser.close()


@pytest.fixture(scope="module")
def chromium(debian_package: Any) -> Iterator[Chromium]:
    """A headless Chromium, which the tests of a module share."""
    with run_chromium(debian_package("chromium", str(_PROGRAM))) as running:
        yield running


def _axe_script() -> str:
    """Return axe-core's script from npm's registry, or from where an earlier test kept it."""
    kept = ROOT / "build" / _AXE
    data = b""
    with suppress(FileNotFoundError):
        data = kept.read_bytes()
    if not _is_axe(data):
        data = _fetch_axe()
        kept.parent.mkdir(exist_ok=True)
        new = kept.with_name(f"{_AXE}.{os.getpid()}")
        new.write_bytes(data)
        new.replace(kept)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        script = archive.extractfile("package/axe.min.js")
        assert script is not None
        return script.read().decode()


def _fetch_axe() -> bytes:
    try:
        with urllib.request.urlopen(_AXE_URL, timeout=60) as response:
            data = bytes(response.read())
    except OSError as exc:
        if os.environ.get("AQLTELEMETRY_CI") == "1":
            raise
        pytest.skip(f"needs {_AXE_URL}: {exc}")
    assert _is_axe(data), f"{_AXE_URL} is not the file that was published"
    return data


def _is_axe(data: bytes) -> bool:
    return base64.b64encode(hashlib.sha512(data).digest()).decode() == _AXE_SHA512
