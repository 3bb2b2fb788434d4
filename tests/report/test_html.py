"""report.html: well-formed, self-contained, complete."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from hetc.bundle import Fallback
from hetc.report import html_report
from hetc.targets import load
from tests.backends.dataflow.planned import TWO, planned
from tests.report.facts import decisions, manifest, report

VOID = {"meta", "link", "br", "img", "hr", "input"}
# The names of fonts and of SVG are no addresses; anything that a browser would fetch is.
FETCHED = re.compile(r"""(?:src|href|url\(|@import)\s*[=("' ]""")


class Checker(HTMLParser):
    """Collects text, and complains of tags that do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def checked(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert not checker.open
    return checker


def test_the_page_is_whole_and_tells_everything() -> None:
    checker = checked(html_report(report()))
    text = " ".join(" ".join(checker.text).split())
    for expected in (
        "grid-8x8:4",
        "layers.0-2.self_attn.q_proj",
        "layer0-2.key",
        "3 attention masks proven causal",
        "None: every op got its first choice.",
        "hand-off",
    ):
        assert expected in text
    assert checker.seen.count("svg") == 2
    assert checker.seen.count("circle") >= 4
    for reason in {record["reason"]["code"] for record in decisions()["ops"]}:
        assert reason in text


def test_nothing_is_fetched_and_nothing_runs() -> None:
    page = html_report(report())
    assert not FETCHED.search(page)
    assert "<script" not in page


def test_names_are_escaped() -> None:
    evil = manifest('<script>alert("1")</script>', fallbacks=(Fallback("HETC-E010", "<i>", "a&b"),))
    page = html_report(report(evil))
    checked(page)
    assert "<script" not in page
    assert "a&amp;b" in page


def test_equal_reports_give_equal_pages() -> None:
    assert html_report(report()) == html_report(report())


@pytest.mark.parametrize("kind", ["runnable", "plan"])
def test_one_device_for_everything(kind: str) -> None:
    page = html_report(report(manifest(kind=kind), split=False))
    checked(page)
    assert "Nothing: one device runs everything." in page
    assert ("a plan: no weights" in page) == (kind == "plan")


def test_the_plan_in_pictures() -> None:
    plan = planned(TWO)
    # The decisions know one socket; the grid is the same.
    targets = {"prefill": load("grid-8x8:4"), "decode": replace(load(TWO), count=1)}
    told = replace(report(), plan=plan, targets=targets)
    page = html_report(told)
    checker = checked(page)
    assert checker.seen.count("svg") == 5, "two rooflines, two sections, a token"
    assert "The decode half on the chip" in " ".join(checker.text)
    for section in plan.sections:
        assert f"Floorplan of section {section.id}" in page
    assert not FETCHED.search(page)
    assert html_report(told) == page
