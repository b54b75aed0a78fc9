"""The quiz in headless Chromium: twenty tiles by keyboard, by mouse and by touch; its score, intervals and tables."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rnasynth.evaluation.stats import binomial_interval
from rnasynth.pages import quiz
from tests.pages.quiz_tiles import sheet

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
LOCAL = ("file:", "data:", "blob:", "about:")
CONTRAST = """selector => {  // of an element's text and the first ground behind it that is not transparent (WCAG 1.4.3)
  const light = colour => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(part => part / 255)
      .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const element = document.querySelector(selector);
  let ground = element;
  while (ground && /^rgba\\(.*, 0\\)$/.test(getComputedStyle(ground).backgroundColor)) ground = ground.parentElement;
  const both = [getComputedStyle(element).color, ground ? getComputedStyle(ground).backgroundColor : "rgb(255, 255, 255)"];
  const [low, high] = both.map(light).sort((one, other) => one - other);
  return (high + 0.05) / (low + 0.05);
}"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with nothing but a quiz of two models."""
    path = tmp_path_factory.mktemp("quiz") / "quiz.html"
    body = quiz.quiz_html([sheet("RNA-GAN", seed=1), sheet("label only", seed=2)])
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    head += '<title>quiz</title><link rel="icon" href="data:,">'
    path.write_text(f"{head}<body><button id='elsewhere'>elsewhere</button>{body}</body></html>", encoding="utf-8")
    return path


@pytest.fixture(params=["own", "book"])
def where(request: pytest.FixtureRequest, own: Path) -> Path:
    """The test's own page, and the rendered book's ($RNASYNTH_BOOK)."""
    if request.param == "own":
        return own
    if not os.environ.get("RNASYNTH_BOOK"):
        pytest.skip("no rendered book ($RNASYNTH_BOOK)")
    path = Path(os.environ["RNASYNTH_BOOK"]).resolve() / "quiz.html"
    assert "quiz-data" in path.read_text(encoding="utf-8"), "the rendered book has no quiz: run page 07"
    return path


class Answers:
    """What the page holds, as only its key tells."""

    def __init__(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        found = re.search(r'<script type="application/json" id="quiz-data">(.*?)</script>', text, re.DOTALL)
        assert found is not None
        data = json.loads(found.group(1))
        makers = quiz.unseal(data["sealed"], data["key"])["maker"]
        self.models: list[str] = data["models"]
        self.real: str = data["real"]
        self.maker = dict(zip(data["tiles"], makers, strict=True))

    def of(self, tab: Any) -> int:
        """Maker of the tile that is shown: 0 real, else the model's number."""
        return int(self.maker[tab.locator("#quiz .quiz-tile").get_attribute("src")])


def at(tab: Any, number: int) -> None:
    """Make sure which tile is asked for."""
    assert tab.locator("#quiz .quiz-where").inner_text().startswith(f"Tile {number} of 20")


def share(successes: int, n: int) -> str:
    """A share with its interval as the library has it, in the words of the quiz."""
    if not n:
        return "none shown"
    found = binomial_interval(successes, n)
    value, low, high = (f"{int(100 * end + 0.5)}\u00a0%" for end in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})"


def check_end(tab: Any, answers: Answers, given: list[tuple[int, str]], table: int = 0) -> None:
    """Compare score, meaning, table and review with what was answered: (maker, answer) a tile."""
    right = sum((maker == 0) == (answer == "real") for maker, answer in given)
    if table == 0:
        score = tab.locator("#quiz .quiz-score").inner_text()
        assert score == f"You were right on {right} of 20 tiles: {share(right, 20)}, 95 % interval after Wilson."
        found = binomial_interval(right, 20)
        words = "above 50 %" if found.low > 0.5 else "below 50 %" if found.high < 0.5 else "guessing"
        assert words in tab.locator("#quiz .quiz-meaning").inner_text()
    lines = tab.locator("#quiz .quiz-tables table").nth(table).locator("tbody tr")
    assert lines.count() == len(answers.models) + 1
    for number in range(lines.count()):
        maker = (number + 1) % lines.count()  # the real ones stand last
        mine = [answer for made, answer in given if made == maker]
        wrong = sum((answer == "real") != (maker == 0) for answer in mine)
        name = f"{answers.models[maker - 1]}, taken for real" if maker else f"{answers.real}, taken for synthetic"
        cells = [name, f"{wrong} of {len(mine)}", share(wrong, len(mine))]
        assert lines.nth(number).locator("th, td").all_inner_texts() == cells


def test_twenty_tiles_by_keyboard_alone(where: Path, tab: Any) -> None:
    answers = Answers(where)
    tab.goto(where.as_uri(), wait_until="load")
    for _ in range(400):  # from the top of the document, as a reader without a mouse gets there
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.classList.contains('quiz-begin')"):
            break
    assert tab.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)") >= 2
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.classList.contains('quiz-play')"), "the keys work at once"
    given = []
    for number in range(20):
        at(tab, number + 1)
        assert tab.locator("#quiz .quiz-tile").get_attribute("alt") == f"Tissue tile {number + 1} of 20"
        assert tab.locator("#quiz .quiz-end").is_hidden(), "nothing is told before the end"
        maker = answers.of(tab)
        key = ("r" if maker == 0 else "s") if number < 17 else ("s" if maker == 0 else "r")  # the last three wrong
        given.append((maker, {"r": "real", "s": "synthetic"}[key]))
        tab.keyboard.press(key)
    assert tab.evaluate("document.activeElement.classList.contains('quiz-heading')")
    check_end(tab, answers, given)
    assert (
        tab.locator("#quiz .quiz-score")
        .inner_text()
        .startswith("You were right on 17 of 20 tiles: 85\u00a0% (64\u00a0% to 95\u00a0%)")
    )
    said = tab.locator("#quiz .quiz-review li").all_inner_texts()
    assert [text.strip().endswith("right.") for text in said] == [True] * 17 + [False] * 3
    assert all(
        ("synthetic, " + answers.models[maker - 1] if maker else "real") in text
        for (maker, _), text in zip(given, said, strict=True)
    )
    assert tab.locator("#quiz .quiz-review li.quiz-wrong").count() == 3
    assert tab.complaints == [] and all(url.startswith(LOCAL) for url in tab.requests)


def test_twenty_tiles_by_touch_on_a_phone_in_the_dark(where: Path, new_tab: Callable[..., Any]) -> None:
    tab = new_tab(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, color_scheme="dark")
    tab.add_init_script("localStorage.setItem('mode', 'dark'); localStorage.setItem('theme', 'dark')")  # the book's switch
    answers = Answers(where)
    tab.goto(where.as_uri(), wait_until="load")
    for name in ("begin", "real", "back", "where"):
        assert tab.evaluate(CONTRAST, f"#quiz .quiz-{name}") >= 4.5, name
    tab.locator("#quiz .quiz-begin").tap()
    given = []
    for number in range(20):
        at(tab, number + 1)
        given.append((answers.of(tab), "real"))
        box = tab.locator("#quiz .quiz-real").bounding_box()
        assert box["height"] >= 44 and box["x"] >= 0 and box["x"] + box["width"] <= 390
        tile = tab.locator("#quiz .quiz-tile").bounding_box()
        assert tile["width"] == pytest.approx(tile["height"], abs=1) and tile["x"] + tile["width"] <= 390
        tab.locator("#quiz .quiz-real").tap()
    check_end(tab, answers, given)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390, "nothing sticks out of the screen"
    assert tab.complaints == [] and all(url.startswith(LOCAL) for url in tab.requests)


def test_another_twenty_are_new_and_all_rounds_are_counted(own: Path, tab: Any) -> None:
    answers = Answers(own)
    tab.goto(own.as_uri(), wait_until="load")
    tab.get_by_role("button", name="Begin").click()
    rounds: list[list[tuple[int, str]]] = []
    shown: list[set[str]] = []
    for _ in range(2):
        given, tiles = [], set()
        for _ in range(20):
            tiles.add(tab.locator("#quiz .quiz-tile").get_attribute("src"))
            given.append((answers.of(tab), "synthetic"))
            tab.get_by_role("button", name="Synthetic").click()
        assert len(tiles) == 20, "no tile twice in a round"
        rounds.append(given)
        shown.append(tiles)
        check_end(tab, answers, given)
        tab.get_by_role("button", name="Another twenty").click()
        at(tab, 1)
    assert len(shown[0] & shown[1]) <= 8, "tiles of the first round return only where the others are used up"
    for _ in range(20):
        tab.keyboard.press("s")
    title = tab.locator("#quiz .quiz-tables caption").nth(1).inner_text()
    assert title.startswith("All 3 rounds") and "first showing" in title


def test_all_rounds_count_each_tile_once(own: Path, tab: Any) -> None:
    answers = Answers(own)
    tab.goto(own.as_uri(), wait_until="load")
    tab.get_by_role("button", name="Begin").click()
    first: dict[str, tuple[int, str]] = {}
    for number in range(5):
        for place in range(20):
            answer = "real" if (place + number) % 3 else "synthetic"
            first.setdefault(tab.locator("#quiz .quiz-tile").get_attribute("src"), (answers.of(tab), answer))
            tab.keyboard.press(answer[0])
        if number:
            check_end(tab, answers, list(first.values()), table=1)
        tab.get_by_role("button", name="Another twenty").click()
    assert len(first) <= 72


def test_an_answer_can_be_changed_on_the_way_back(own: Path, tab: Any) -> None:
    answers = Answers(own)
    tab.goto(own.as_uri(), wait_until="load")
    tab.get_by_role("button", name="Begin").click()
    assert tab.get_by_role("button", name="Back").is_disabled()
    tab.keyboard.press("r")
    tab.keyboard.press("b")
    assert tab.locator("#quiz .quiz-where").inner_text() == "Tile 1 of 20, your answer was real"
    given = []
    for _ in range(20):
        given.append((answers.of(tab), "synthetic"))
        tab.keyboard.press("S")
    check_end(tab, answers, given)


def test_keys_mean_nothing_where_the_quiz_has_no_focus(own: Path, tab: Any) -> None:
    tab.goto(own.as_uri(), wait_until="load")
    tab.get_by_role("button", name="Begin").click()
    tab.locator("#elsewhere").focus()
    for key in "rsb":
        tab.keyboard.press(key)
    at(tab, 1)
    tab.keyboard.press("Tab")  # its first button
    tab.keyboard.press("Alt+s")
    at(tab, 1)
    tab.keyboard.press("s")
    at(tab, 2)


def test_a_coin_decides_between_real_and_synthetic(own: Path, tab: Any) -> None:
    answers = Answers(own)
    tab.goto(own.as_uri(), wait_until="load")
    real, models = [], []
    for _ in range(30):
        tab.reload()
        tab.get_by_role("button", name="Begin").click()
        made = []
        for _ in range(20):
            made.append(answers.of(tab))
            tab.keyboard.press("r")
        real.append(made.count(0))
        models.append(made.count(1) / max(1, 20 - made.count(0)))
    assert len(set(real)) > 3, "the number of real ones is not fixed"
    low, high = (binomial_interval(sum(real), 600, level=0.9999).low, binomial_interval(sum(real), 600, level=0.9999).high)
    assert low < 0.5 < high and 0.35 < sum(models) / 30 < 0.65


def test_the_intervals_are_those_of_the_library(own: Path, tab: Any) -> None:
    text = own.read_text(encoding="utf-8")
    found = re.search(r"^function wilson\(.*?^}", text, re.DOTALL | re.MULTILINE)
    assert found is not None
    tab.goto(own.as_uri(), wait_until="load")
    cases = [(k, n) for n in (1, 2, 7, 20, 41, 1000) for k in {0, 1, n // 3, n // 2, n - 1, n}]

    def apart(source: str) -> float:
        ends = tab.evaluate(f"cases => {{ {source}; return cases.map(([k, n]) => wilson(k, n)); }}", cases)
        right = [binomial_interval(k, n) for k, n in cases]
        return max(
            abs(one - other)
            for mine, it in zip(ends, right, strict=True)
            for one, other in zip(mine, (it.low, it.high), strict=True)
        )

    assert apart(found.group()) < 1e-12
    assert apart(found.group().replace("4 * n * n", "2 * n * n")) > 1e-3, "another formula is seen"
    assert apart(found.group().replace("1.959963984540054", "1.96")) > 1e-6


def test_the_seal_is_opened_alike_in_both_languages(own: Path, tab: Any) -> None:
    text = own.read_text(encoding="utf-8")
    source = re.search(r"^function keystream\(.*?^}", text, re.DOTALL | re.MULTILINE)
    assert source is not None
    tab.goto(own.as_uri(), wait_until="load")
    for key in ("0", "abcdef0123456789" * 2):
        zeros = quiz.seal("a" * 200, key)
        opened = tab.evaluate(
            f"([text, key]) => {{ {source.group()}; const next = keystream(key);"
            " return Array.from(atob(text), one => String.fromCharCode(one.charCodeAt(0) ^ next())).join(''); }",
            [zeros, key],
        )
        assert opened == '"' + "a" * 200 + '"'


def test_a_request_would_be_seen(own: Path, tab: Any, tmp_path: Path) -> None:
    leak = tmp_path / "leak.html"
    text = own.read_text(encoding="utf-8").replace(
        "function finish() {", "function finish() { fetch('https://example.org/score');"
    )
    leak.write_text(text, encoding="utf-8")
    tab.goto(leak.as_uri(), wait_until="load")
    tab.get_by_role("button", name="Begin").click()
    for _ in range(20):
        tab.keyboard.press("r")
    tab.wait_for_timeout(200)
    assert [url for url in tab.requests if not url.startswith(LOCAL)] == ["https://example.org/score"]
