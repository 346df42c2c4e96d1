"""The report in headless Chromium: what a reader does with it, and that it asks for nothing."""

import functools
import shutil
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from report_pages import EXAMPLES, NAMES

import diet_jax as dj
from diet_jax.report.contents import read_run

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync")
WORDS = ("error", "warning")
OWN = ("file:", "data:", "blob:")


@functools.cache
def what_lacks() -> str:
    """Why the report cannot be opened here; "" where it can."""
    try:
        import playwright  # noqa: F401
    except ImportError:
        return "playwright is not installed (pip install playwright)"
    return "" if any(map(shutil.which, PROGRAMS)) else f"there is no Chromium: none of {', '.join(PROGRAMS)}"


pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(bool(what_lacks()), reason=what_lacks() or "there is all"),
]


class Opened(NamedTuple):
    """A page in a browser, and what it asked for and complained of."""

    tab: Any
    asked: list[str]
    complaints: list[str]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, PROGRAMS)))
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=program, args=[*ARGUMENTS, *QUIET])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium) -> Iterator[Any]:
    """Opens a page; at the end it must have asked for nothing and complained of nothing."""
    opened: list[Opened] = []

    def open_it(path, width=1280, scheme="light") -> Opened:
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True
        )
        tab, asked, complaints = context.new_page(), [], []

        def answer(route) -> None:
            if route.request.url.startswith(OWN):
                route.continue_()
            else:
                asked.append(route.request.url)
                route.abort()

        tab.route("**/*", answer)
        # Bokeh says how it is set in messages that are no complaints.
        tab.on(
            "console",
            lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None,
        )
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.goto(path.as_uri())
        tab.wait_for_selector("html[data-ready]")
        opened.append(Opened(tab, asked, complaints))
        return opened[-1]

    yield open_it
    for each in opened:
        assert each.asked == []
        assert each.complaints == []
        assert each.tab.evaluate("window.hacked") is None
        each.tab.context.close()


def shown(tab) -> list[int]:
    """The rows in the gallery, once it is drawn."""
    tab.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return tab.eval_on_selector_all(".gallery [role=option]", "items => items.map(item => +item.dataset.row)")


def scores(runs, name: str) -> np.ndarray:
    return np.load(runs.first / "scores" / f"{name}.npz")["scores"]


def labels(runs) -> tuple[np.ndarray, np.ndarray]:
    noise = np.load(runs.first / "noise.npz")
    return noise["labels"], noise["changed"]


def test_order_and_filters(open_page, page, runs):
    tab = open_page(page).tab
    el2n, (given, changed) = scores(runs, "el2n").astype(np.float32), labels(runs)
    assert shown(tab) == sorted(range(EXAMPLES), key=lambda row: (-el2n[row], -row))[:60]
    tab.select_option("#sort", "0 0")
    assert shown(tab) == sorted(range(EXAMPLES), key=lambda row: (el2n[row], row))[:60]
    tab.select_option("#sort", "-1 0")
    tab.select_option("#filter-class", "2")
    assert shown(tab) == np.flatnonzero(given == 2).tolist()
    tab.select_option("#filter-labels", "changed")
    assert shown(tab) == np.flatnonzero((given == 2) & changed).tolist()
    tab.select_option("#filter-class", "-1")
    assert shown(tab) == np.flatnonzero(changed).tolist()
    tab.select_option("#filter-labels", "all")
    kept = read_run(runs.first).kept[0]
    tab.select_option("#filter-selection", "0")
    tab.select_option("#filter-kept", "dropped")
    assert shown(tab) == np.flatnonzero(~kept.file.keep)[:60].tolist()
    tab.select_option("#filter-kept", "kept")
    assert shown(tab) == np.flatnonzero(kept.file.keep)[:60].tolist()
    low, high = np.sort(el2n[kept.file.keep])[[5, 15]].astype(float)
    tab.fill("#filter-low", str(low))
    tab.fill("#filter-high", str(high))
    within = kept.file.keep & (el2n >= low) & (el2n <= high)
    assert shown(tab) == np.flatnonzero(within).tolist()
    tab.click("text=Show all")
    tab.wait_for_selector("#shown:has-text('160 of 160')")
    assert len(shown(tab)) == 60
    tab.click("text=Next ›")
    tab.click("text=Next ›")
    assert len(shown(tab)) == EXAMPLES - 120


def brushed(tab) -> int:
    """Drags over the left upper part of the scatter, and returns how many that selected."""
    tab.locator(".scatter").scroll_into_view_if_needed()
    box = tab.locator(".scatter").bounding_box()
    tab.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 0.05 * box["height"])
    tab.mouse.down()
    tab.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.6 * box["height"], steps=6)
    tab.mouse.up()
    shown(tab)
    return int(tab.locator("#selected").inner_text().split()[0])


def test_a_brush_selects_and_its_ids_can_be_taken_along(open_page, page, runs):
    tab = open_page(page).tab
    count = brushed(tab)
    assert 0 < count < EXAMPLES
    rows = shown(tab)
    assert len(rows) == min(count, 60)
    with tab.expect_download() as download:
        tab.click("#save")
    ids = download.value.path().read_text(encoding="utf-8").splitlines()
    assert len(ids) == count
    assert ids[: len(rows)] == runs.train.ids[rows].tolist()
    times = tab.evaluate("window.reportTimes.brush")
    assert times
    assert max(times) < 1000
    with tab.expect_download() as download:
        tab.click("#save-table")
    first = download.value.path().read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("id,class,came_as,EL2N")
    tab.click("#clear")
    assert tab.locator("#selected").inner_text() == f"{EXAMPLES} shown"


def test_selecting_by_numbers_is_what_a_brush_does(open_page, page, runs):
    tab = open_page(page).tab
    across, up = (scores(runs, name).astype(np.float32) for name in ("variability", "mean_confidence"))
    low, high = np.quantile(across, 0.4), np.quantile(up, 0.6)
    tab.click("text=Select by numbers")
    tab.fill("[aria-label='across from']", str(float(low)))
    tab.fill("[aria-label='up to']", str(float(high)))
    tab.keyboard.press("Enter")
    wanted = (across >= low) & (up <= high)
    assert 0 < wanted.sum() <= 60
    assert sorted(shown(tab)) == np.flatnonzero(wanted).tolist()
    assert tab.locator("#selected").inner_text() == f"{wanted.sum()} selected"


def test_hovering_shows_the_example(open_page, page, runs):
    tab = open_page(page).tab
    across = scores(runs, "variability").astype(np.float32)
    tab.locator(".scatter").scroll_into_view_if_needed()
    box = tab.locator(".scatter").bounding_box()
    # From the right, line by line, the first that is met is among the most variable.
    found = ""
    for x in range(12, 120, 12):
        for y in range(12, 400, 12):
            if not found:
                tab.mouse.move(box["x"] + box["width"] - x, box["y"] + y)
                found = tab.evaluate("document.querySelector('.hover.on')?.dataset.row ?? ''")
    assert across[int(found)] >= np.quantile(across, 0.9)
    text = tab.locator(".hover").inner_text()
    assert f"id {runs.train.ids[int(found)]}" in text
    assert "variability" in text
    assert tab.locator(".hover canvas").count() == 1


def test_the_gallery_goes_by_keyboard(open_page, page, runs):
    tab = open_page(page).tab
    rows = shown(tab)
    tab.locator(".gallery [role=option]").first.focus()
    focused = "document.activeElement.dataset.row"
    tab.keyboard.press("ArrowRight")
    assert int(tab.evaluate(focused)) == rows[1]
    tab.keyboard.press("ArrowDown")
    across = rows.index(int(tab.evaluate(focused))) - 1
    assert across > 1
    tab.keyboard.press("ArrowUp")
    tab.keyboard.press("Home")
    assert int(tab.evaluate(focused)) == rows[0]
    tab.keyboard.press(" ")
    assert tab.locator(".gallery [aria-selected=true]").count() == 1
    assert tab.locator("#selected").inner_text() == "1 selected"
    tab.keyboard.press("Enter")
    dialog = tab.locator("dialog[open]")
    assert str(runs.train.ids[rows[0]]) in dialog.inner_text()
    tab.keyboard.press("Escape")
    assert tab.locator("dialog[open]").count() == 0


def test_dark_and_light_and_narrow(open_page, page):
    colour = "getComputedStyle(document.body).backgroundColor"
    light, dark = open_page(page).tab, open_page(page, scheme="dark").tab
    bright, dim = light.evaluate(colour), dark.evaluate(colour)
    assert bright != dim
    light.click("#theme")
    assert light.evaluate(colour) == dim
    light.click("#theme")
    assert light.evaluate(colour) == bright
    narrow = open_page(page, width=400).tab
    for tab in (light, narrow):
        # All sections are drawn on the way down, and nothing is wider than the window.
        for section in tab.locator("section").all():
            section.scroll_into_view_if_needed()
            shown(tab)
        assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") == 0
    assert narrow.locator("section .chart").count() >= 5


def test_links_lead_to_their_sections_though_charts_above_are_drawn_late(open_page, page):
    tab = open_page(page).tab
    for name in ("stability", "classes", "costs"):
        tab.click(f'#nav a[href="#{name}"]')
        tab.wait_for_timeout(600)
        top = tab.eval_on_selector(f"#{name}", "section => section.getBoundingClientRect().top")
        left = tab.evaluate("document.body.scrollHeight - innerHeight - scrollY")
        assert abs(top) < 120 or left < 2, name


def test_names_are_shown_as_they_are(open_page, page):
    tab = open_page(page).tab
    tab.locator("#classes").scroll_into_view_if_needed()
    tab.wait_for_selector("#classes tbody tr")
    assert tab.locator("#classes tbody th").all_inner_texts() == list(NAMES)
    assert tab.locator("img").count() == 0


def test_numbers_beside_the_charts_are_those_of_the_run(open_page, page, runs):
    tab = open_page(page).tab
    tab.get_by_text("Table", exact=True).first.click()
    tab.wait_for_selector("#accuracy tbody tr")
    first = tab.locator("#accuracy tbody tr").first.locator("td").all_inner_texts()
    row = runs.result.rows[0]
    assert first[:3] == ["1", f"{EXAMPLES:,}", f"{100 * row['accuracy']:.2f}"]


def test_two_runs_are_drawn_side_by_side(open_page, runs, tmp_path):
    out = tmp_path / "both.html"
    dj.write_report([runs.first, runs.second], out=out, splits=(runs.train, runs.test))
    tab = open_page(out).tab
    assert tab.locator("h1").inner_text() == "first, second"
    assert tab.locator("#scatter-y option:checked").inner_text() == "second: EL2N"
    assert tab.locator("#scatter-ranks").input_value() == "1"
    assert brushed(tab) > 0
    tab.locator("#overlap").scroll_into_view_if_needed()
    tab.wait_for_selector("#overlap .heat tbody tr")
    assert "second: el2n" in tab.locator("#overlap .heat").inner_text()


def test_without_pictures_rows_are_shown(open_page, runs, tmp_path):
    tab = open_page(dj.write_report(runs.first, out=tmp_path / "rows.html")).tab
    assert len(shown(tab)) == 60
    assert tab.locator(".gallery.rows code").first.inner_text().startswith("train")
    assert "not here" in tab.locator("#explore .said").first.inner_text()


def test_numbers_are_shown_as_they_are(open_page, page):
    tab = open_page(page).tab
    shown = tab.evaluate("[30522, -1000001, 16777217, 0.12345, 1e12, NaN].map(short)")
    assert shown == ["30522", "−1000001", "16777217", "0.123", "1.00e+12", "–"]
    score = "{values: Float32Array.of(2, NaN, 1, NaN)}"
    ranks = tab.evaluate(f"[...Object.assign(new Examples(), {{count: 4}}).ranksOf({score})].map(String)")
    assert ranks == ["1", "NaN", "0.6666666865348816", "NaN"]
