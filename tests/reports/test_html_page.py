"""The report page: says what the metrics say, is whole, and leaves out what a run does not have."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from zetalib.reports import html_page


def summary(nll, **more):
    names = ("nll", "crps", "mae", "rmse", "pit_mean", "coverage", "width")
    found = dict.fromkeys(names, 0.5) | {f"{name}_se": 0.01 for name in names}
    found |= {"nll": nll, "pit_std": 0.29, "pit_ks": 0.01, "targets": 1234}
    return found | {"by_height": {str(k): {"nll": nll, "nll_se": 0.1} for k in range(5)}} | more


def metrics():
    covered = {"coverage": 0.9, "se": 0.001, "width": 0.12, "median_width": 3e-5}
    fifths = {str(k): {"coverage": 0.88 + 0.01 * k} for k in range(5)}
    kinds = {k: covered | {"by_height": fifths, "by_width": fifths} for k in ("raw", "adaptive")}
    err = {"trajectories": 1000, "10": {"err": 0.0815, "se": 0.002}}
    return {
        "skill": {
            "network": summary(-9.0512),
            "marginal": summary(0.5, behind={"nll": 9.5512, "se": 0.0123}),
            "a < b": summary(-3.0, behind={"nll": 6.05, "se": 0.02}),
        },
        "evaluate": {
            "coverage": {"0.9": kinds},
            "ahead": {
                "10": {
                    "0.9": {
                        "raw": covered | {"coverage": 0.321},
                        "split": covered | {"se": None},  # of fewer than ten trajectories
                    }
                }
            },
            "law_ahead": {
                "128": {
                    "0.9": {
                        "coverage": 0.897,
                        "least": 0.871,
                        "most": 0.913,
                        "width": {"1": 1.2e-5, "100": 0.36},
                    }
                }
            },
            "constant": {"mae": 0.328},
            "rollout": {"128": {"expected": err, "always 1": err}},
        },
    }


def plots():
    x = np.linspace(0.05, 0.95, 10)
    law = pd.DataFrame({"known": [1, 8, 64] * 2, "nll": np.arange(6.0), "se": 0.1})
    return {
        "law": law.assign(series=["network"] * 3 + ["a < b"] * 3),
        "pit": pd.DataFrame({"pit": x, "density": 1.0, "low": 0.9, "high": 1.1}),
        "reliability": pd.DataFrame({"nominal": x, "excess": 0.01 * x}),
        "rollout": pd.DataFrame({"h": [1.0, 2.0], "err": [0.1, 0.2], "series": "always 1"}),
        "contexts": pd.DataFrame({"known": [512, 1024], "nll": [-1.0, -4.0], "se": 0.1}).assign(
            series=["primes told apart", "a < b"]
        ),
    }


class Checker(HTMLParser):
    """Fails where an element is closed that is not open."""

    def __init__(self):
        super().__init__()
        self.open, self.links = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta",):
            self.open.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href") and not v.startswith("#")]

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def text():
    return html_page.page(metrics(), plots())


def test_the_page_is_whole_and_needs_no_network(text):
    checker = Checker()
    checker.feed(text)
    assert checker.open == [] and checker.links == []
    assert "<script" not in text
    figures = re.findall(r"<svg.*?</svg>", text, re.S)
    assert len(figures) == 4 == text.count("<figcaption>")
    ids = [
        element.get("id")
        for figure in figures
        for element in ElementTree.fromstring(figure).iter()
        if element.get("id") and element.tag.endswith(("clipPath", "path"))
    ]
    assert len(ids) == len(set(ids)), "a figure would be clipped by another's frame"


def test_the_page_says_what_the_metrics_say(text):
    assert "NLL −9.051(10) nats" in text
    assert "The strongest rival, a &lt; b, is 6.050(20) nats behind" in text
    assert "<td>raw</td><td>32.1% ± 0.1%</td>" in text
    assert "<td>88.0% to 92.0%</td>" in text and "<td>0.082(2)</td>" in text
    assert text.index("<td>network</td>") < text.index("<td>a &lt; b</td>")
    assert "Published" not in text and "The published claims" not in text


def test_equal_runs_leave_equal_pages(text):
    assert html_page.page(metrics(), plots()) == text


def test_every_series_has_a_look_of_its_own():
    looks = {(dash, mark) for _, dash, mark in html_page.STYLES}
    assert len(looks) == len(html_page.STYLES) == len({color for color, _, _ in html_page.STYLES})


def test_what_could_not_be_compared_is_said_and_left_out():
    found = {"reason": "no explicit formula so low", "targets": 9, "layers": None}
    report = {"operator": found | {"correlations": {"explicit formula": None, "inversion": None}}}
    text = html_page._operator({"claims": report}, {})
    assert text == "<p>no explicit formula so low</p>"
