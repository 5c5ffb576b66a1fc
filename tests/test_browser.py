"""The browser of the tests sees what is wrong with a page."""

from __future__ import annotations

from pathlib import Path

import pytest

from browser import Chromium

pytestmark = pytest.mark.system
_PAGE = """<!doctype html><html lang="en"><head><title>page</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
{head}</head><body><main><h1>page</h1>{body}</main></body></html>"""


def _page(tmp_path: Path, head: str = "", body: str = "", policy: bool = True) -> str:
    path = tmp_path / "page.html"
    text = _PAGE.format(head=head, body=body)
    path.write_text(text if policy else text.replace("Content-Security-Policy", "x-none"))
    return path.as_uri()


def test_a_good_page_has_no_problem(chromium: Chromium, tmp_path: Path) -> None:
    with chromium.open(_page(tmp_path, body="<p>text</p>")) as visit:
        assert visit.page.title() == "page"
        assert visit.evaluate("Promise.resolve(6 * 7)") == 42
        assert visit.axe() == []
    assert visit.problems() == []


def test_an_inaccessible_page_is_found(chromium: Chromium, tmp_path: Path) -> None:
    grey = "<p style='color:#ccc;background:#fff'>pale</p><input>"
    with chromium.open(_page(tmp_path, body=grey)) as visit:
        rules = [found.partition(":")[0] for found in visit.axe()]
    assert rules == ["color-contrast", "label"]


def test_errors_of_scripts_and_of_the_policy_are_found(chromium: Chromium, tmp_path: Path) -> None:
    with chromium.open(_page(tmp_path, "<script>nothing.here</script>")) as visit:
        pass
    assert ["Content Security Policy" in error for error in visit.errors] == [True]
    with chromium.open(_page(tmp_path, "<script>nothing.here</script>", policy=False)) as visit:
        pass
    assert ["nothing is not defined" in error for error in visit.errors] == [True]


def test_a_request_to_another_host_is_found(chromium: Chromium, tmp_path: Path) -> None:
    url = "http://127.0.0.1:9/picture.png"
    page = _page(tmp_path, body=f"<img alt='' src='{url}'>", policy=False)
    with chromium.open(page) as visit:
        pass
    assert visit.elsewhere == [url]


def test_a_picture_of_the_page_is_saved(chromium: Chromium, tmp_path: Path) -> None:
    with chromium.open(_page(tmp_path)) as visit:
        visit.screenshot(tmp_path / "pictures" / "page.png")
    assert (tmp_path / "pictures" / "page.png").read_bytes().startswith(b"\x89PNG")
