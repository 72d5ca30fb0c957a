"""Text of strangers in every medium that m2m writes, judged by that medium's own reader."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

from m2m.cli import console
from m2m.errors import InputError
from m2m.export.modelfile import modelfile
from m2m.formats.gguf import GGUFFile, GGUFValue
from m2m.formats.journal import Journal
from m2m.formats.json_text import json_text
from m2m.mix.verdict import Verdict
from m2m.pipeline.inputs import make_formatter
from m2m.progress import Logged, Silent
from m2m.recipe.new_recipe import recipe_text, toml_value
from m2m.report import charts
from m2m.report.card import card_text
from m2m.report.page import page
from m2m.results.facts import DatasetFacts, csv_tables
from m2m.results.table import Column, Table, as_csv, as_latex
from tests.hostile import HOSTILE, READABLE, controls, formulas, read_modelfile
from tests.report import samples
from tests.report.test_card import CARD
from tests.report.test_markup import Reader
from tests.tiny import CHATML, pico_gguf

hostile = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
readable = pytest.mark.parametrize("text", READABLE.values(), ids=READABLE)
NAMES = ["from", "template", "stop", "stop", "num_ctx", "temperature", "license"]
SHORT = re.compile(r"\s+")


def card(text: str) -> str:
    data = DatasetFacts("set", 3, 1.0, ("sw",), text, text, text)
    plain = samples.confirmation(("aa", "bb", "cc"))
    models = [dataclasses.replace(model, label=text) for model in plain.models]
    verdict = Verdict("keep the base", text, (text,), text)
    confirmation = dataclasses.replace(plain, target=text, models=models, verdict=verdict)
    named = dict.fromkeys(("name", "base", "base_licence"), text)
    said = {field: [text, text] for field in ("made", "warnings", "serving", "compared", "judged")}
    whole = dataclasses.replace(CARD, **named, **said, sources=[data], confirmation=confirmation)
    return card_text(whole)


def template(text: str) -> str:
    """A chat template that says `text` before every question."""
    quoted = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return CHATML.replace("'<|im_start|>'", f"'{quoted}<|im_start|>'", 1)


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pico_gguf(tmp_path_factory.mktemp("gguf") / "pico.gguf")


@hostile
def test_html_is_the_page_that_tame_text_makes(text: str) -> None:
    tame, source = Reader(page(samples.facts())), page(samples.facts(text=text))
    found = Reader(source)
    assert found.elements == tame.elements
    assert [name for name, _ in found.attributes] == [name for name, _ in tame.attributes]
    assert not controls(source, "\n\t")


@hostile
def test_svg_is_well_formed_xml(text: str) -> None:
    drawn = charts.ranking_chart(samples.ranking((text, "b")), (text, "b"))
    tame = charts.ranking_chart(samples.ranking(("a", "b")), ("a", "b"))
    found, expected = ([e.tag for e in ET.fromstring(svg).iter()] for svg in (drawn, tame))
    assert found == expected
    assert not controls(drawn, "\n\t")


@hostile
def test_front_matter_is_read_back_by_yaml(text: str) -> None:
    head = card(text).split("---\n")[1]
    assert not controls(head)
    found = yaml.safe_load(head)
    assert set(found) >= {"base_model", "datasets", "language", "license", "tags"}
    assert found["base_model"] == text
    assert found["datasets"] == ["set"]
    assert set(found) == set(yaml.safe_load(card("x").split("---\n")[1]))


@hostile
def test_markdown_has_the_structure_of_tame_text(text: str) -> None:
    def structure(source: str) -> list[str]:
        tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(source.split("---\n", 2)[2])
        kinds = [t.type for token in tokens for t in (token, *(token.children or ()))]
        return [kind for kind in kinds if kind not in ("text", "text_special")]

    found = structure(card(text))
    assert not {"html_block", "html_inline", "link_open", "image", "fence"} & set(found)
    assert found == structure(card("x y"))
    assert not controls(card(text))


@hostile
def test_modelfile_keeps_its_commands(text: str, gguf: Path) -> None:
    formatter = make_formatter(GGUFFile(gguf), "chat")
    written = modelfile(Path("m.gguf"), formatter, 64, {"a": text, "b": "MIT"})
    assert [name for name, _ in read_modelfile(written)] == NAMES
    assert not controls(written, "\n\t")


@hostile
def test_modelfile_keeps_its_commands_whatever_the_template_says(text: str, tmp_path: Path) -> None:
    metadata = {"tokenizer.chat_template": GGUFValue.string(template(text))}
    if "\ud800" in text:
        return
    formatter = make_formatter(GGUFFile(pico_gguf(tmp_path / "p.gguf", metadata=metadata)), "chat")
    written = modelfile(Path("m.gguf"), formatter, 64, {"a": "MIT"})
    assert [name for name, _ in read_modelfile(written)] == NAMES
    assert not controls(written, "\n\t")


def number(cell: str) -> bool:
    """Whether a spreadsheet reads a cell as a number, which is not a formula."""
    return re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", cell) is not None


@hostile
def test_csv_has_no_formula_and_keeps_its_cells(text: str) -> None:
    columns = [Column(text, "a"), Column("b", "b"), Column("c", "c", int)]
    written = as_csv(Table("t", "Caption", columns, [(text, text, 1), ("x", "", 2)]))
    assert not formulas(written)
    assert not controls(written, "\n\t")
    read = list(csv.reader(io.StringIO(written, newline="")))
    assert [len(row) for row in read] == [3, 3, 3]
    assert [row[2] for row in read] == ["c", "1", "2"]
    for table in csv_tables(samples.facts(text=text)):
        cells = [cell for cell in formulas(as_csv(table)) if not number(cell)]
        assert not cells, table.name


@hostile
@pytest.mark.parametrize("indent", [None, 2])
def test_json_is_read_back_as_it_was(text: str, indent: int | None) -> None:
    written = json_text({text: [text]}, indent=indent)
    assert not controls(written)
    written.encode("utf-8")
    assert json.loads(written) == {text: [text]}


@hostile
def test_a_journal_is_read_back_as_it_was(text: str, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    journal.append({"a": text})
    assert journal.replay() == [{"a": text}]
    assert not controls(journal.path.read_text(encoding="utf-8"))


@hostile
def test_toml_is_read_back_as_it_was(text: str) -> None:
    if "\ud800" in text:
        return
    data = [{"name": "a", "path": "a.jsonl", "licence": text, "notes": text}]
    written = recipe_text({"base": {"model": text}}, {"datasets": data, "targets": []})
    found = tomllib.loads(written)
    assert (found["base"], found["datasets"]) == ({"model": text}, data)
    assert not controls(toml_value(text))


@hostile
def test_the_log_has_one_line_for_each_thing_said(text: str, tmp_path: Path) -> None:
    log = Logged(Silent(), tmp_path / "run.log")
    log.note(text)
    log.warn(text)
    log.stage(text, 1, 2)
    log.start(text, 1, text)
    log.advance(1, text)
    log.finish()
    written = log._path.read_text(encoding="utf-8")
    assert not controls(written)
    assert len(written.splitlines()) == 5
    assert all(re.match(r"\d{4}(-\d\d){2} (\d\d:?){3}  ", line) for line in written.splitlines())


@hostile
def test_an_error_has_one_head_and_one_hint(text: str, tmp_path: Path) -> None:
    shown = InputError(f"bad name {text}\n  - more", f"rename {text}").for_user()
    heads = [line for line in shown.split("\n") if not line.startswith("  ")]
    assert [line[:5] for line in heads] == ["Error", "", "hint:"]
    log = Logged(Silent(), tmp_path / "run.log")
    log.write(*shown.split("\n"))
    assert not controls(log._path.read_text(encoding="utf-8"))


@hostile
def test_a_table_is_text(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = console.make_table("name", text)
    table.add_row("x", text)
    console.print_table(table)
    out = capsys.readouterr().out
    assert not controls(out)
    assert "[/x]" not in text or "[/x]" in SHORT.sub("", out)


@hostile
def test_progress_is_lines_of_text(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    progress = console.TerminalProgress()
    progress.stage(text, 1, 2)
    progress.note(text)
    progress.warn(text)
    err = capsys.readouterr().err
    assert not controls(err)
    assert len(err.splitlines()) == 3


@readable
def test_text_of_languages_stays_readable(text: str, tmp_path: Path, gguf: Path) -> None:
    formatter = make_formatter(GGUFFile(gguf), "chat")
    log = Logged(Silent(), tmp_path / "run.log")
    log.note(text)
    written = (
        page(samples.facts(text=text)),
        card(text),
        modelfile(Path("m.gguf"), formatter, 64, {"a": text}),
        as_csv(Table("t", "Caption", [Column("a", "a")], [(text,)])),
        json_text(text),
        toml_value(text),
        log._path.read_text(encoding="utf-8"),
    )
    assert all(text in each for each in written)


def test_the_command_line_prints_in_one_place_only() -> None:
    says = re.compile(r"\b(?:click\.s?echo|print|sys\.std(?:out|err)\.write)\(")
    folder = Path(console.__file__).parent
    printing = {path.name for path in folder.glob("*.py") if says.search(path.read_text("utf-8"))}
    assert printing == {"console.py"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows allows no such file name")
def test_a_usage_error_steers_no_terminal(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "m2m", "report", str(tmp_path / "a\x1b[2J.toml")]
    done = subprocess.run(line, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 1
    assert r"a\x1b[2J is not" in done.stderr
    asked = [sys.executable, "-m", "m2m", "report", "--\x1b[2J"]
    done = subprocess.run(asked, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 2
    assert not controls(done.stderr)


@hostile
def test_no_text_is_a_command_a_comment_or_a_column_of_latex(text: str) -> None:
    table = Table("t", text, [Column("a", "a"), Column("b", text)], [(text, "x")])
    lines = as_latex(table).split("\n")
    assert len(lines) == 9
    assert lines[0].startswith("% ")
    row = lines[5].removesuffix(r" \\")
    # The ten characters that LaTeX does not take for themselves (The Not So Short Introduction to
    # LaTeX, section 2.2) are written as commands; the one left is between the two columns.
    bare = re.sub(r"\\text\w+\{\}|\\[{}$&#_%]|\$\\pm\$", "", row)
    assert [c for c in bare if c in "\\{}$&#^_%~"] == ["&"]
    assert not controls(row)


def test_latex_is_read_back_as_the_text() -> None:
    plain = r"50 % of {a} & b_c ~ \d ^2 #1 $x$"
    written = as_latex(Table("t", "", [Column("a", "a")], [(plain,)]))
    for command, sign in {r"\textbackslash{}": "\\", r"\textasciitilde{}": "~",
                          r"\textasciicircum{}": "^"}.items():  # fmt: skip
        written = written.replace(command, f"\0{sign}" if sign == "\\" else sign)
    assert (
        re.sub(r"\\([{}$&#_%])", r"\1", written).replace("\0\\", "\\").split("\n")[5]
        == plain + r" \\"
    )
