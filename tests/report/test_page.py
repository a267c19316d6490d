"""The page as a file: all of it is inside, names are text, and numbers stand in their place."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from helpers.runs import CURVE, CURVES, HOSTILE, PROTOCOL, SCORES, grid, png, run_facts
from PIL import Image

from liquidgen.report.facts import ClassAccuracy, EvaluationFile, Score, read_classes, read_curves
from liquidgen.report.page import Page, figure, render, write_page
from liquidgen.report.pictures import chart, webp

ADDRESSES = ("src", "href", "xlink:href", "srcset", "data", "action", "poster")


class Elements(HTMLParser):
    """Tags, addresses and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def page() -> Page:
    other = run_facts("second", params=run_facts().params | {"train.learning_rate": "0.002"})
    evaluation = EvaluationFile(
        protocol=PROTOCOL, intervals={"kid": (0.4, 0.6)}, quotes=["FD 12 (so and so)"]
    )
    main = run_facts(
        "first",
        curves=CURVES,
        grid=png(grid(0)),
        evaluation=evaluation,
        classes=(ClassAccuracy("hills", 0.5, 1.0), ClassAccuracy("sea", None, None)),
        neighbors=png(Image.new("RGB", (40, 20))),
        lineage={"git revision": "0123abcd"},
    )
    before = (other.params, "run 1, second")
    return Page("the title", main, others=[other], before=before, notes=["a note"])


@pytest.fixture(scope="module")
def html(page: Page) -> str:
    return render(page)


def test_nothing_is_outside_the_page(html: str):
    elements = Elements(html)
    addresses = [value for name, value in elements.attributes if name in ADDRESSES]
    assert addresses
    assert [one[:40] for one in addresses if not one.startswith(("data:image/", "#"))] == []
    assert [one for one in re.findall(r"url\(([^)]*)\)", html) if not one.startswith("#")] == []
    assert not {"link", "iframe", "object", "base", "form"} & set(elements.tags)
    assert "@import" not in html


def test_share_of_copies_is_shown_beside_the_neighbors(html: str):
    assert "Of the samples 0.25 have, of held-out images 0.125." in html
    assert ">copied_share<" not in html  # it has no ceiling to be drawn against


def test_page_lets_run_its_own_script_alone(html: str):
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html
    assert "default-src 'none'" in html


def test_names_with_html_are_text():
    main = run_facts(
        HOSTILE,
        params={"dataset": HOSTILE, "dataset.license": HOSTILE, "train.seed": "0"},
        classes=(ClassAccuracy(HOSTILE, 0.5, 0.5),),
        curves=CURVES,
        lineage={"git revision": HOSTILE},
        evaluation=EvaluationFile(protocol=PROTOCOL | {"feature_network": HOSTILE}),
    )
    other = replace(main, params={**main.params, "train.seed": HOSTILE})
    plain = render(Page("title", run_facts(classes=main.classes), others=[run_facts()]))
    html = render(Page(HOSTILE, main, [other], before=({"dataset": "x"}, HOSTILE), notes=[HOSTILE]))
    elements = Elements(html)
    # in the title, for one, and in charts
    assert elements.text.count(HOSTILE) > 10
    assert elements.tags.count("script") == Elements(plain).tags.count("script") == 1
    assert not [name for name, _ in elements.attributes if name.startswith("on")]


def test_page_has_all_parts(html: str):
    text = " ".join(Elements(html).text.split())
    for part in ("the title", "a note", "first", "second", "hills", "CC0-1.0", "0123abcd"):
        assert part in text
    assert "0.4 to 0.6" in text  # the interval
    assert "40 samples against 50 held-out images, features builtin, solver euler" in text
    assert "FD 12 (so and so)" in text
    assert "cannot tell noise from real images" in text  # precision
    assert "train.learning_rate 0.002" in text  # of the second run
    assert "Differs from run 1, second in: train.learning_rate 0.004 0.002" in text
    assert "Marked: differs from run 1, second." in text


def test_run_without_scores_classes_and_pictures():
    bare = run_facts(scores={}, evaluation=EvaluationFile(), training={})
    text = Elements(render(Page("t", bare, others=[replace(bare, started=None)]))).text
    assert "This run was not evaluated." in text
    assert "No grid of this run is recorded." in text


def cells(page: Page, score: str) -> list[tuple[str, str]]:
    """Text and class of a column of the table of runs."""
    html = render(page)
    table = html.partition('<table class="runs">')[2].partition("</table>")[0]
    headings = re.findall(r"<th data-sort>(.*?)</th>", table)
    rows = re.findall(r"<tr.*?</tr>", table, re.DOTALL)[1:]
    found = [re.findall(r'<td data-value="[^"]*"(.*?)>(.*?)</td>', row, re.DOTALL) for row in rows]
    column = [row[headings.index(score) - 1] for row in found]
    return [(text.strip(), re.sub(r'.*class="\s*(\w*).*', r"\1", kind)) for kind, text in column]


def test_best_is_marked_among_runs_that_compare():
    main = run_facts("main")
    better = run_facts("better", scores=SCORES | {"kid": 0.25})
    params = main.params | {"evaluate.features": "other"}
    elsewhere = run_facts("elsewhere", scores=SCORES | {"kid": 0.125}, params=params)
    page = Page("t", main, others=[better], listed=[elsewhere])
    assert cells(page, "kid") == [("0.5", ""), ("0.25", "best"), ("0.125", "elsewhere")]
    higher = run_facts("higher", scores=SCORES | {"class_accuracy": 0.875})
    page = Page("t", main, others=[higher])
    assert cells(page, "class_accuracy") == [("0.75", ""), ("0.875", "best")]


def test_values_that_are_no_numbers_are_no_best():
    broken = run_facts(scores=SCORES | {"kid": float("nan")})
    page = Page("t", run_facts(), others=[broken, run_facts(scores=SCORES | {"kid": 0.25})])
    assert cells(page, "kid") == [("0.5", ""), ("nan", ""), ("0.25", "best")]


def test_best_may_be_negative_and_missing_values_are_no_best():
    worse = run_facts("worse", scores={})
    main = run_facts("main", scores=SCORES | {"kid": -0.01})
    assert cells(Page("t", main, others=[run_facts(), worse]), "kid") == [
        ("-0.01", "best"),
        ("0.5", ""),
        ("", ""),
    ]


def test_batch_sizes_do_not_keep_scores_from_comparing():
    main = run_facts(params={"evaluate.batch_size": "1", "sample.num_images": "9", "dataset": "a"})
    assert main.compares(replace(main, params={**main.params, "evaluate.batch_size": "2"}), "kid")
    assert not main.compares(replace(main, params={**main.params, "sample.num_images": "8"}), "kid")
    assert not main.compares(replace(main, params={**main.params, "dataset": "b"}), "kid")


def test_place_of_a_score_is_between_noise_and_real_images():
    score = Score("kid", 0.5, None, real=0.1, noise=2.1, reconstruction=None, tells_noise=True)
    assert score.place(2.1) == 0
    assert score.place(0.1) == 1
    assert score.place(1.1) == pytest.approx(0.5)
    assert (score.place(9.0), score.place(-1.0)) == (0, 1)
    assert score.place(float("nan")) is None
    assert score._replace(real=2.1).place(0.5) is None


def test_floors_are_read_from_names():
    floors = {score.name: score for score in run_facts().floors()}
    assert list(floors) == ["kid", "precision", "class_accuracy"]
    assert floors["kid"].reconstruction == 0.05
    assert floors["class_accuracy"].real == 1.0
    assert [score.name for score in floors.values() if not score.tells_noise] == ["precision"]


def test_figures_are_short():
    shown = [figure(value) for value in (None, 0.0, 12.0, 1791504.0, 0.74573, 932.88, 2294.78)]
    assert shown == ["", "0", "12", "1,791,504", "0.746", "933", "2,295"]
    assert [figure(float(name)) for name in ("nan", "inf")] == ["nan", "inf"]


def test_large_pictures_are_scaled_down():
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, (1200, 900, 3), np.uint8)
    address, width, height = webp(png(Image.fromarray(levels)), 100_000)
    assert width / height == pytest.approx(0.75, rel=0.02)
    assert 0.9 < width * height / 100_000 < 1.1
    content = base64.b64decode(address.removeprefix("data:image/webp;base64,"))
    assert content[8:12] == b"WEBP"
    assert webp(png(Image.new("RGB", (30, 20))), 100_000)[1:] == (30, 20)


def test_names_that_are_no_utf8_do_not_stop_the_page(tmp_path: Path):
    write_page(tmp_path / "page.html", Page("\udcff", run_facts("\ud800")))
    assert "<title>?</title>" in (tmp_path / "page.html").read_text()


def test_long_curve_has_no_points():
    """Nor a warning of matplotlib, which the tests turn into an error."""
    long = chart({"loss": [(number / 10, 1.0) for number in range(60)]})
    assert chart({"loss": CURVE}).count("<use") > long.count("<use")


@pytest.mark.parametrize("read", [read_classes, read_curves])
@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\xff\xfe"])
def test_damaged_tables_are_refused(read, content: bytes):
    with pytest.raises(ValueError, match=r"column|decode"):
        read(content)


def test_run_of_before_the_choice_of_features_has_the_builtin_ones():
    main = run_facts(params={"evaluate.features": "dinov2"})
    earlier = run_facts(params={"dataset": "procedural"}, scores=SCORES | {"kid": 0.25})
    assert cells(Page("t", main, others=[earlier]), "kid") == [("0.5", ""), ("0.25", "elsewhere")]
    main = replace(main, params={"evaluate.features": "builtin"})
    assert cells(Page("t", main, others=[earlier]), "kid") == [("0.5", ""), ("0.25", "best")]


def test_curve_without_points_is_left_out():
    """MLflow has its values, but none is a number."""
    main = run_facts(curves=CURVES | {"validation_loss_t0.25-0.50": []})
    assert "validation loss by time t" in render(Page("t", main))
    main = run_facts(curves={"validation_loss_t0.25-0.50": []})
    assert "validation loss by time t" not in render(Page("t", main))


@pytest.mark.parametrize("size", [0, 8, 300])
def test_damaged_grid_is_no_grid(size: int):
    broken = run_facts("broken", grid=png(grid(0))[:size])
    html = render(Page("t", run_facts(grid=png(grid(0))), others=[broken]))
    assert html.count("No grid of this run is recorded.") == 1
    assert html.count('data-group="grid"') == 1
