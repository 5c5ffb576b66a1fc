"""The HTML report as a file, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aqltelemetry import TelemetryDB
from aqltelemetry.views import html
from aqltelemetry.views.document import document
from aqltelemetry.views.strips import strips
from browser import PHONE, WIDE, Chromium, Visit
from page_data import EVIL, write_recording, write_rows
from recordings import Recording, Route

pytestmark = pytest.mark.system
SMALL = (360, 800)


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> TelemetryDB:
    """Return a recording."""
    directory = tmp_path_factory.mktemp("page") / "_monitoring"
    directory.mkdir()
    write_recording(directory)
    return TelemetryDB(directory)


@pytest.fixture(scope="module")
def path(db: TelemetryDB, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return its report."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    values = dict(document(db))
    begin_ms = strips(db).span.begin_ns // 10**6
    values["findings"] = [
        {
            "rule": "errors",
            "severity": "error",
            "text": "`/orders [POST]` fails",
            "label": "/orders [POST]",
            "pid": 4001,
            "begin_ms": begin_ms + 46_000,
            "end_ms": begin_ms + 62_000,
        }
    ]
    path.write_text(html.report_html(db, values))
    return path


@pytest.fixture
def visit(chromium: Chromium, path: Path) -> Iterator[Visit]:
    """Open the report; check at the end that nothing went wrong in it."""
    with chromium.open(path.as_uri(), timezone_id="Europe/Berlin") as opened:
        yield opened
        assert opened.problems() == []


def _number(text: str) -> float:
    return float(re.sub(r"[^\d.]", "", text))


def _seconds(text: str) -> float:
    """Return a duration such as `≈ 2.5 ms` in seconds."""
    return _number(text) * {"µs": 1e-6, "ms": 1e-3, "s": 1.0}[text.rsplit(maxsplit=1)[-1]]


def _total(visit: Visit, name: str) -> str:
    return visit.page.locator(f'[data-total="{name}"]').inner_text()


def _column(visit: Visit, table: str, head: str) -> list[str]:
    """Return the cells below a head."""
    root = visit.page.locator(f"#{table}-table")
    heads = [re.sub(r"\W", "", each) for each in root.locator("thead th").all_inner_texts()]
    (index,) = [at for at, each in enumerate(heads) if each == re.sub(r"\W", "", head)]
    return [row.locator("th, td").nth(index).inner_text() for row in root.locator("tbody tr").all()]


def test_the_numbers_are_those_of_the_database(visit: Visit, db: TelemetryDB) -> None:
    known = db.summary()
    labels = _column(visit, "durations", "label")

    def shown(head: str) -> dict[str, float]:
        found = dict(zip(labels, _column(visit, "durations", head), strict=True))
        return {str(label): _number(found[str(label)]) for label in known.index}

    assert shown("count") == known["count"].to_dict()
    for head, column in (("p50 ms", "p50_s"), ("p99 ms", "p99_s"), ("max ms", "max_s")):
        assert shown(head) == pytest.approx((known[column] * 1000).to_dict(), abs=0.051)


def test_the_totals_of_a_route_are_those_of_the_database(visit: Visit, db: TelemetryDB) -> None:
    row = db.summary().loc["/orders [POST]"]
    visit.page.select_option("#route", "/orders [POST]")
    assert _number(_total(visit, "count")) == row["count"]
    errors = row[["errors_4xx", "errors_5xx", "disconnects", "failures"]].sum()
    assert _number(_total(visit, "errors").split("(")[0]) == errors
    for name in ("p50_s", "p90_s", "p95_s", "p99_s", "p999_s", "max_s"):
        assert _seconds(_total(visit, name)) == pytest.approx(row[name], rel=0.006)


def _type_range(visit: Visit, begin: str, end: str) -> None:
    visit.page.fill("#from", begin)
    visit.page.fill("#to", end)
    visit.page.press("#to", "Enter")


def test_a_typed_range_has_the_counts_of_the_database_and_near_percentiles(
    visit: Visit, db: TelemetryDB, path: Path
) -> None:
    visit.page.select_option("#route", "/orders [POST]")
    _type_range(visit, "23:14:00", "23:15:00")  # Berlin's time of 22:14 to 22:15 UTC
    rows = db.rows("duration")
    begin_ns = 1_700_000_040 * 10**9
    inside = rows.of_label("/orders [POST]")
    inside = inside[
        (inside.timepoints_ns >= begin_ns) & (inside.timepoints_ns < begin_ns + 60 * 10**9)
    ]
    assert _number(_total(visit, "count")) == len(inside)
    assert "%" in visit.page.locator("#totals-note").inner_text()
    (bound,) = re.findall(
        r"at most ([\d.]+) % off", visit.page.locator("#totals-note").inner_text()
    )
    exact_s = float(sorted(inside.measurements)[len(inside) // 2])
    assert _seconds(_total(visit, "p50_s")) == pytest.approx(exact_s, rel=float(bound) / 100 + 0.01)


@pytest.mark.parametrize(
    ("begin", "end", "message"),
    [
        ("noon", "23:15", "A time is such as"),
        ("23:15", "23:14", "ends before it begins"),
        ("03:00", "04:00", "Nothing was recorded then"),
    ],
)
def test_a_wrong_range_is_explained(visit: Visit, begin: str, end: str, message: str) -> None:
    _type_range(visit, begin, end)
    assert message in visit.page.locator("#range-error").inner_text()
    assert visit.page.locator("[aria-invalid]").count() == 1


def _range(visit: Visit) -> tuple[str, str]:
    return visit.page.input_value("#from"), visit.page.input_value("#to")


def test_dragging_across_a_chart_zooms_all_of_them(visit: Visit) -> None:
    whole = _range(visit)
    over = visit.page.locator("#strip-durations .u-over")
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    assert box is not None
    visit.page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 20)
    visit.page.mouse.down()
    visit.page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 20, steps=3)
    visit.page.mouse.up()
    begin, end = _range(visit)
    assert begin == "23:14:04.500"
    assert end in ("23:14:50.000", "23:14:50.500")
    assert visit.page.locator(".life").first.evaluate("bar => bar.style.left") == "0%"
    over.dblclick()
    assert _range(visit) == whole


def test_the_charts_are_used_by_keyboard(visit: Visit) -> None:
    whole = _range(visit)
    visit.page.focus("#charts")
    for key in ("Home", "Shift+ArrowRight", "ArrowRight"):
        visit.page.keyboard.press(key)
    at = visit.page.locator("#strip-rate .at").inner_text()
    assert at == "23:13:25.000"
    assert at in visit.page.locator("#cursor-text").inner_text()
    assert "Durations: " in visit.page.locator("#cursor-text").inner_text()
    visit.page.keyboard.press("[")
    assert _range(visit) == ("23:13:25.000", whole[1])
    visit.page.keyboard.press("+")
    assert _range(visit)[0] == "23:13:25.000"
    assert _range(visit)[1] < whole[1]
    visit.page.keyboard.press("0")
    assert _range(visit) == whole


def test_a_finding_leads_to_its_place_by_keyboard(visit: Visit) -> None:
    finding = visit.page.locator(".finding")
    assert finding.locator("code").inner_text() == "/orders [POST]"
    finding.focus()
    visit.page.keyboard.press("Enter")
    assert visit.page.input_value("#route") == "/orders [POST]"
    assert visit.page.locator("tr[aria-current]").inner_text().startswith("/orders [POST]")
    assert visit.page.locator(".is-chosen").inner_text() == "4001"
    begin, end = _range(visit)
    assert "23:13:50" < begin < "23:14:06"
    assert "23:14:22" < end < "23:14:40"
    assert finding.get_attribute("aria-current") == "true"


def test_a_table_is_sorted_by_its_heads(visit: Visit) -> None:
    head = visit.page.locator("#durations-table thead").get_by_role("button", name="p99 ms")
    head.focus()
    visit.page.keyboard.press("Enter")
    found = [_number(text) for text in _column(visit, "durations", "p99 ms")]
    assert found == sorted(found, reverse=True)
    visit.page.keyboard.press("Enter")  # the focus stays where it was
    found = [_number(text) for text in _column(visit, "durations", "p99 ms")]
    assert found == sorted(found)
    sorted_heads = visit.page.locator('#durations-table th[aria-sort="ascending"]')
    assert sorted_heads.all_inner_texts()[0].startswith("p99")


def test_rows_are_filtered_by_their_labels(visit: Visit) -> None:
    visit.page.fill("#filter", "GET")
    labels = _column(visit, "durations", "label")
    assert labels
    assert all("GET" in label for label in labels)


def test_a_worker_is_drawn_or_not(visit: Visit) -> None:
    button = visit.page.locator(".worker").first
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    visit.page.focus("#charts")
    visit.page.keyboard.press("Home")
    visit.page.keyboard.press("Shift+ArrowRight")
    assert visit.page.locator(".worker").first.get_attribute("aria-pressed") == "false"
    assert visit.page.locator("#strip-cpu .item").count() == 1


def test_times_are_local_or_utc(visit: Visit) -> None:
    assert "23:13:19" in visit.page.locator("#when").inner_text()
    visit.page.click("#utc")
    assert "22:13:19" in visit.page.locator("#when").inner_text()
    assert "UTC" in visit.page.locator("#when").inner_text()
    assert _range(visit)[0].startswith("22:13:19")


def _background(visit: Visit) -> Any:
    return visit.evaluate("getComputedStyle(document.documentElement).backgroundColor")


def test_the_theme_is_that_of_the_system_until_one_is_chosen(
    chromium: Chromium, path: Path
) -> None:
    with chromium.open(path.as_uri(), color_scheme="dark") as visit:
        dark = _background(visit)
        visit.page.select_option("#theme", "light")
        light = _background(visit)
        assert light != dark
        visit.page.reload()
        assert _background(visit) == light
        visit.page.select_option("#theme", "auto")
        assert _background(visit) == dark
        visit.page.emulate_media(color_scheme="light")
        visit.page.wait_for_selector("[data-theme=light]")
        assert _background(visit) == light


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE, SMALL])
def test_the_page_is_accessible_and_fits_the_window(
    chromium: Chromium, path: Path, scheme: str, size: tuple[int, int]
) -> None:
    with chromium.open(path.as_uri(), size=size, color_scheme=scheme) as visit:
        for open_all in ("heat map", "Keys"):
            visit.page.get_by_role("button", name=open_all).click()
        visit.page.locator(".meanings summary").first.click()
        visit.page.click("#zoom-in")
        assert visit.axe() == []
        assert visit.evaluate("document.documentElement.scrollWidth") <= size[0]
        assert visit.problems() == []


def test_nothing_moves_while_the_page_is_used(visit: Visit) -> None:
    def places() -> Any:
        return visit.evaluate(
            "[...document.querySelectorAll('.strip, h2')]"
            ".map(each => each.getBoundingClientRect().top + scrollY)"
        )

    before = places()
    visit.page.focus("#charts")
    for key in ("Home", "ArrowRight"):
        visit.page.keyboard.press(key)
    visit.page.get_by_role("button", name="heat map").click()
    visit.page.select_option("#theme", "dark")
    visit.page.click("#utc")
    assert places() == before


def test_a_label_with_markup_is_shown_as_text(chromium: Chromium, tmp_path: Path) -> None:
    rows = [(at / 10, 0.1, f'"{EVIL} [GET]"', 7) for at in range(100)]
    write_rows(tmp_path, rows, "duration")
    write_rows(tmp_path, [(1, 2.0, f'"{EVIL}"', 7)], "custom")
    db = TelemetryDB(tmp_path)
    page = tmp_path / f"{EVIL.replace('/', '')}.html"
    page.write_text(html.report_html(db, {**document(db), "directory": EVIL}))
    dialogs: list[str] = []
    with chromium.open("about:blank") as visit:
        visit.page.on("dialog", lambda dialog: dialogs.append(dialog.message))
        visit.page.goto(page.as_uri())
        assert visit.page.locator("h1").inner_text() == EVIL
        assert _column(visit, "durations", "label") == [f"{EVIL} [GET]"]
        assert visit.page.locator("#route option").all_inner_texts() == [f"{EVIL} [GET]"]
        assert visit.page.locator("img").count() == 0
        assert visit.problems() == dialogs == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_cause_leads_to_its_stalls_and_a_stall_to_its_place(
    chromium: Chromium, tmp_path: Path, scheme: str
) -> None:
    recording = Recording(30)
    worker = recording.add_worker()
    worker.serve(Route("/orders [GET]"))
    for at_s in (5, 15):
        worker.block(at_s, 0.5, "blocking wait", 12)
    worker.block(20, 0.2, "python code", 30)
    html.write_html(TelemetryDB(recording.write(tmp_path)), tmp_path / "report.html")
    with chromium.open((tmp_path / "report.html").as_uri(), color_scheme=scheme) as visit:
        lines = visit.page.locator("#stall-list tbody tr")
        assert _column(visit, "stalls", "line") == ["orders/app.py:12", "orders/app.py:30"]
        assert lines.count() == 3
        assert visit.axe() == []
        visit.page.locator("#stalls-table tbody button").last.click()
        assert lines.count() == 1
        assert "orders/app.py:30 view (100 %)" in lines.first.inner_text()
        visit.page.locator("#stall-list tbody button").click()
        assert visit.evaluate("document.querySelector('#whole').disabled") is False
        assert visit.problems() == []


def test_an_empty_recording_has_a_page_without_errors(chromium: Chromium, tmp_path: Path) -> None:
    html.write_html(TelemetryDB(tmp_path), tmp_path / "report.html")
    with chromium.open((tmp_path / "report.html").as_uri()) as visit:
        assert "Nothing was recorded" in visit.page.locator("#when").inner_text()
        assert visit.axe() == []
        assert visit.problems() == []


def test_the_charts_of_a_printed_page_fit_the_paper(visit: Visit) -> None:
    visit.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert (
        visit.evaluate(
            "Math.max(...[...document.querySelectorAll('canvas')].map(c => c.clientWidth))"
        )
        <= 700
    )
    visit.evaluate("dispatchEvent(new Event('afterprint'))")
