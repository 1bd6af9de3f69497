"""The report in a browser: on a desktop and on a phone, with mouse and keyboard."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from search.report.page import ORDER, page
from tests.browser import MARKS, chromium, open_at
from tests.search.report.examples import data_of, plant_audit
from tests.search.results.test_answer import sweep

pytestmark = MARKS

WIDTHS = (390, 1400)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    run, records = sweep(folder, 0.2)
    plant_audit(run, "11", "sound", 0.61, 0.59)
    path = folder / "report.html"
    path.write_text(page(data_of(run, records)), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as chrome:
        yield chrome


@pytest.mark.parametrize("width", WIDTHS)
def test_every_card_is_shown_without_errors_or_requests(browser: Any, address: str, width: int) -> None:
    browser.get_log("performance")
    open_at(browser, address, width)
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]
    assert address in sent
    assert [url for url in sent if not url.startswith(("file:", "data:"))] == []
    cards = browser.find_elements("css selector", "section.card")
    assert [card.get_attribute("id") for card in cards] == [name for name in ORDER if name != "test"]
    for card in cards:
        assert card.is_displayed()
        assert card.size["width"] <= width
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_it_has_a_dark_mode(browser: Any, address: str) -> None:
    brightness = {}
    for scheme in ("light", "dark"):
        open_at(browser, address, 1400, scheme)
        colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        brightness[scheme] = sum(map(int, colour.removeprefix("rgb(").rstrip(")").split(",")))
    assert brightness["dark"] < 200 < 700 < brightness["light"]


@pytest.mark.parametrize("key", ["click", "ENTER", "SPACE"])
def test_tables_sort(browser: Any, address: str, key: str) -> None:
    from selenium.webdriver.common.keys import Keys

    open_at(browser, address, 1400)
    table = browser.find_element("css selector", "#front table")
    browser.execute_script("document.querySelector('#front details').open = true")
    columns = table.find_elements("css selector", "thead th")
    at = next(at for at, column in enumerate(columns) if column.text.startswith("robust accuracy"))

    def values() -> list[float]:
        cells = table.find_elements("css selector", f"tbody tr > :nth-child({at + 1})")
        return [float(cell.text.split(" %")[0]) for cell in cells]

    def press() -> None:
        button = columns[at].find_element("css selector", "button")
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
        if key == "click":
            button.click()
        else:
            button.send_keys(getattr(Keys, key))

    before = values()
    assert len(before) == 13
    press()
    assert columns[at].get_attribute("aria-sort") == "descending"
    assert values() == sorted(before, reverse=True) != before
    press()
    assert columns[at].get_attribute("aria-sort") == "ascending"
    assert values() == sorted(before)


def test_a_screen_reader_finds_landmarks_and_labels(browser: Any, address: str) -> None:
    open_at(browser, address, 1400)
    for landmark in ("header", "nav", "main", "footer"):
        assert len(browser.find_elements("css selector", landmark)) == 1
    assert len(browser.find_elements("css selector", "h1")) == 1
    pictures = browser.find_elements("css selector", ".picture")
    assert len(pictures) > 8
    assert all(picture.get_attribute("role") == "img" for picture in pictures)
    assert all(picture.get_attribute("aria-label") for picture in pictures)
    assert browser.find_elements("css selector", "th:not([scope])") == []


def test_the_keyboard_reaches_everything_in_order_and_shows_where_it_is(browser: Any, address: str) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    open_at(browser, address, 1400)
    browser.execute_script("""
        const each = [...document.querySelectorAll("a, button, summary")];
        window.reachable = each.filter((each) => each.checkVisibility());
        window.reached = [];
    """)
    shown = """
        const each = document.activeElement, at = each.getBoundingClientRect();
        if (each === document.body) return null;
        reached.push(each);
        return each.matches(":focus-visible") && getComputedStyle(each).outlineStyle === "solid"
            && at.bottom > 0 && at.top < innerHeight;
    """
    for _ in range(300):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        visible = browser.execute_script(shown)
        if visible is None:
            break
        assert visible
    else:
        pytest.fail("the keyboard never leaves the page")
    assert browser.execute_script("return reachable.filter((each) => !reached.includes(each)).length") == 0
    before = "return reached.every((each, at) => !at || reached[at - 1].compareDocumentPosition(each) & 4)"
    assert browser.execute_script(before)
    scrolls = (
        "return reached.filter((each) => each.matches('.wide')).every((each) => each.scrollWidth > each.clientWidth)"
    )
    assert browser.execute_script(scrolls)


def test_it_prints_in_full_and_in_light_colours(browser: Any, address: str) -> None:
    is_open = "return [...document.querySelectorAll('details')].map((each) => each.open)"
    open_at(browser, address, 700, "dark")
    before = browser.execute_script(is_open)
    assert False in before
    browser.execute_script(f"addEventListener('beforeprint', () => {{ window.opened = (() => {{ {is_open} }})(); }})")
    assert base64.b64decode(browser.print_page()).startswith(b"%PDF")
    assert all(browser.execute_script("return opened"))
    assert browser.execute_script(is_open) == before, "what was closed is closed again"

    open_at(browser, address, 700, "dark", "print")
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.execute_script("return getComputedStyle(document.body).color") == "rgb(34, 40, 49)"
    fits = "return [...document.querySelectorAll('.wide, pre')].every((each) => each.scrollWidth <= each.clientWidth)"
    assert browser.execute_script(fits)
    assert not browser.find_element("css selector", "nav").is_displayed()
    link = "return getComputedStyle(document.querySelector('td a'), '::after').content"
    assert "audits/" in browser.execute_script(link), "a link says on paper where it leads"
