"""`m2m judge` on a real run: the page, the files that judges save, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from m2m.cli.main import cli
from m2m.commands.judge import described
from m2m.formats.json_text import json_text
from m2m.mix.mixture import Mixture
from m2m.report.judge_page import ShownPair, judge_page
from m2m.results.confirmation import Model
from tests.browser import CHROMIUM, browser
from tests.pipeline.scenario import copied
from tests.report.samples import EVIL
from tests.report.test_markup import Reader


def m2m(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def made(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe of a finished run, whose page is made."""
    recipe = copied(finished_run, tmp_path_factory.mktemp("judge"))
    assert m2m("run", recipe, "--quiet").exit_code == 0  # its files name this place
    assert m2m("judge", recipe, "--pairs", "24", "--quiet").exit_code == 0
    return recipe


@pytest.fixture
def recipe(made: Path, tmp_path: Path) -> Path:
    return copied(made, tmp_path)


def files(recipe: Path) -> tuple[Path, dict[str, Any]]:
    """The page and its key."""
    folder = recipe.parent / "m2m-runs" / "recipe" / "judge"
    (page,) = folder.glob("*.html")
    (key,) = folder.glob("keys/*.json")
    return page, json.loads(key.read_text(encoding="utf-8"))


def asked(key: dict[str, Any]) -> list[dict[str, Any]]:
    return [pair for pair in key["pairs"] if not pair["same"]]


def save(folder: Path, name: str, key: dict[str, Any], choices: dict[str, str]) -> Path:
    """A file as the page saves it."""
    path = folder / f"answers-{name}.json"
    saved = {"m2m": "judge answers", "schema": 1, "page": key["page"], "judge": name}
    path.write_text(json_text({**saved, "name": "", "answers": choices}), encoding="utf-8")
    return path


def for_winner(key: dict[str, Any], *, wrong: int = 0) -> dict[str, str]:
    """Choices for the winner everywhere, but in the last pairs for the other model."""
    pairs = asked(key)
    right = {pair["id"]: "a" if pair["a"] == "winner" else "b" for pair in pairs}
    other = {pair["id"]: "ab"[right[pair["id"]] == "a"] for pair in pairs[len(pairs) - wrong :]}
    return right | other


def test_the_page_shows_each_pair_and_no_model(recipe: Path) -> None:
    page, key = files(recipe)
    source = page.read_text(encoding="utf-8")
    found = Reader(source)
    assert found.elements.count("article") == len(asked(key)) > 3
    assert {"base", "winner", "runner-up"} == key["models"].keys()
    for word in ("winner", "runner", "base model", "copy +", "seed", "sha256:"):
        assert word not in source, word
    sides = [pair["a"] == "winner" for pair in key["pairs"]]
    assert 4 < sum(sides) < 20
    rivals = [{pair["a"], pair["b"]} for pair in key["pairs"]]
    assert rivals.count({"winner", "base"}) == rivals.count({"winner", "runner-up"}) == 12
    lines = [pair["line"] for pair in key["pairs"]]
    assert sorted(map(lines.count, {*lines})) == [1] * 8 + [2] * 8
    assert len({(pair["line"], *sorted([pair["a"], pair["b"]])) for pair in key["pairs"]}) == 24


@pytest.mark.slow  # every model answers again
def test_the_same_command_makes_the_same_page(recipe: Path) -> None:
    page, key = files(recipe)
    before = page.read_bytes()
    again = json.loads(m2m("judge", recipe, "--pairs", "24", "--json", "--quiet").stdout)
    assert Path(again["page"]).read_bytes() == before
    assert (again["pairs"], again["same"]) == (len(asked(key)), 24 - len(asked(key)))


def test_answers_go_into_result_report_and_card(made: Path) -> None:
    recipe, (_, key) = made, files(made)
    one = save(recipe.parent, "one", key, for_winner(key))
    two = save(recipe.parent, "two", key, for_winner(key, wrong=2))
    found = json.loads(m2m("judge", recipe, one, two, "--json").stdout)
    assert (found["judges"], found["shared"]) == (2, len(asked(key)))
    assert {p["rival"] for p in found["preferences"]} == {"base", "runner-up"}
    for preference in found["preferences"]:
        same = preference["same"]
        pairs = [p for p in asked(key) if preference["rival"] in (p["a"], p["b"])]
        lost = sum(p in asked(key)[-2:] for p in pairs) / 2
        assert preference["pairs"] == len(pairs) + same == 12
        expected = (len(pairs) - lost + same / 2) / 12
        assert preference["rate"]["estimate"] == pytest.approx(expected)
        assert preference["counts"]["winner"] == 2 * len(pairs) - 2 * lost
    folder = recipe.parent / "m2m-runs" / "recipe"
    shown = m2m("judge", recipe, one, two).stdout
    assert "2 people compared answers to test questions of copying" in shown
    assert "Krippendorff&#x27;s alpha (nominal)" in (folder / "report.html").read_text("utf-8")
    assert json.loads((folder / "report.json").read_text("utf-8"))["judged"] == found
    assert "winner against" in m2m("report", recipe).stdout
    card = (folder / "export" / "README.md").read_text(encoding="utf-8")
    assert card.count("## What people prefer\n\n- 2 people") == 1
    assert m2m("export", recipe, "--quiet").exit_code == 0
    assert (folder / "export" / "README.md").read_text(encoding="utf-8") == card


def test_damaged_and_foreign_files_are_refused_in_words(recipe: Path) -> None:
    _, key = files(recipe)
    folder, result = recipe.parent, recipe.parent / "m2m-runs" / "recipe" / "judged.json"
    result.unlink(missing_ok=True)
    good = save(folder, "good", key, for_winner(key))
    bad = {
        "none": save(folder, "none", key, {}),
        "choice": save(folder, "choice", key, {"p1": "left"}),
        "page": save(folder, "page", {"page": "0a1b2c3d4e5f"}, {"p1": "a"}),
        "pair": save(folder, "pair", key, {"p999": "a"}),
        "cut": folder / "cut.json",
        "other": folder / "other.json",
    }
    bad["cut"].write_bytes(good.read_bytes()[:80])
    bad["other"].write_text('{"a": 1}', encoding="utf-8")
    said = {
        "none": "it has no answers yet",
        "choice": "the answer to p1 is 'left', expected a or b or both or neither",
        "page": "which this run did not make",
        "pair": "the page has no pair 'p999'",
        "cut": "malformed JSON",
        "other": "is not a file that a judge saved",
    }
    for name, path in bad.items():
        found = m2m("judge", recipe, path)
        assert (found.exit_code, found.stdout) == (1, "")
        assert said[name] in found.stderr
        assert "hint:" in found.stderr
    both = m2m("judge", recipe, good, bad["cut"], bad["page"], good).stderr
    assert "3 problems" in both, both
    again = save(folder, "renamed", key, for_winner(key))
    again.write_bytes(good.read_bytes())
    assert "is of the same judge as" in m2m("judge", recipe, good, again).stderr
    assert not result.exists()


def test_answers_about_other_models_are_refused(recipe: Path) -> None:
    _, key = files(recipe)
    path = save(recipe.parent, "one", key, for_winner(key))
    confirmed = recipe.parent / "m2m-runs" / "recipe" / "confirm.json"
    data = json.loads(confirmed.read_text(encoding="utf-8"))
    data["winner"]["steps"] += 1
    confirmed.write_text(json_text(data), encoding="utf-8")
    assert "models that were replaced since" in m2m("judge", recipe, path).stderr


def test_options_of_making_are_not_for_answers(recipe: Path) -> None:
    found = m2m("judge", recipe, "answers.json", "--pairs", "5")
    assert found.exit_code == 2
    assert "--pairs is for making a page" in found.stderr


def test_strangers_text_makes_no_element(tmp_path: Path) -> None:
    tame = Reader(judge_page("a", "t", [ShownPair("p1", "q", "a", "b")]))
    evil = Reader(judge_page("a", EVIL, [ShownPair("p1", EVIL, EVIL, EVIL)]))
    assert evil.elements == tame.elements
    assert [name for name, _ in evil.attributes] == [name for name, _ in tame.attributes]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: chromium)")
def test_a_person_judges_on_a_phone(recipe: Path, tmp_path: Path) -> None:
    """Every pair is answered with thumb and keys, through a reload, and the saved file counts."""
    page, key = files(recipe)
    with browser(tmp_path) as phone:
        phone.open(page)
        assert phone.js("document.documentElement.scrollWidth") == 390
        heights = phone.js(
            "[...document.querySelectorAll('nav button')]"
            ".map(button => button.getBoundingClientRect().height)"
        )
        assert min(heights) >= 44
        phone.tap("[data-choice=a]")
        phone.tap("[data-choice=neither]")
        phone.key("Backspace")
        phone.key("2")
        phone.open(page)  # as after closing the browser
        assert phone.js("document.getElementById('place').textContent").startswith("Pair 3 of")
        for _ in asked(key)[2:]:
            phone.key("4")
        phone.tap("#save")
        phone.until(lambda: [*tmp_path.glob("answers-*.json")])
        assert phone.logged == []
    (saved,) = tmp_path.glob("answers-*.json")
    data = json.loads(saved.read_text(encoding="utf-8"))
    ids = [pair["id"] for pair in asked(key)]
    assert data["answers"] == {**dict.fromkeys(ids, "b"), ids[0]: "a", ids[1]: "both"}
    assert m2m("judge", recipe, saved).exit_code == 0


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: chromium)")
def test_strangers_text_runs_nothing_in_a_browser(tmp_path: Path) -> None:
    path = tmp_path / "evil.html"
    path.write_text(judge_page("a", EVIL, [ShownPair("p1", EVIL, EVIL, EVIL)]), encoding="utf-8")
    with browser(tmp_path) as phone:
        phone.open(path)
        assert phone.js("document.querySelectorAll('img, main script').length") == 0
        assert phone.js("document.querySelector('article .text').textContent").startswith(
            "</title>"
        )
        phone.js("document.body.append(Object.assign(document.createElement('img'), {src: 'x'}))")
        phone.until(lambda: "Content Security Policy" in f"{phone.js('1')} {phone.logged}")


def test_the_steps_of_a_model_are_named_with_the_winners_if_they_differ() -> None:
    winner = Model("top 1", Mixture.uniform(["a"]), "finetuned", {}, {}, steps=1200)
    second = Model("top 2", Mixture.uniform(["a", "b"]), "finetuned", {}, {}, steps=300)
    assert described(winner, 3, winner) == "a (top 1, 1,200 steps)"
    assert described(second, 3, winner) == "a + b (top 2, 300 steps, the winner 1,200)"
    assert described(None, 3, winner) == "the base model"
