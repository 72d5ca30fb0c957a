"""What the README and docs/ say is true: commands run, links lead somewhere, tables are current."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from m2m import families
from m2m.cli.main import cli
from m2m.dataset.extra_columns import READ
from m2m.dataset.rows import FORMATS
from m2m.families import FAMILIES
from m2m.recipe import load_recipe, run_folder
from tests.pipeline.scenario import make_scenario
from tests.tiny import pico_dataset, pico_gguf, pico_model, pico_target

ROOT = Path(__file__).parent.parent
PAGES = {path.name: path.read_text(encoding="utf-8")
         for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}  # fmt: skip
SHOWN = re.compile(r"^    (m2m [^#\n]+?)\s*(?:#.*)?$", re.MULTILINE)
# The tutorial first: other pages use what it leaves.
ORDER = sorted(PAGES, key=lambda name: name != "tutorial.md")
COMMANDS = list(dict.fromkeys(line for name in ORDER for line in SHOWN.findall(PAGES[name])))
# Commands that make a run of their own, and that have quick tests elsewhere.
LONG = re.compile(
    r"m2m (demo|judge|compare|validate|(run|export|chat|report) my-language)"
    r"|monday|--hours|--keep-going|plan"
)
QUICK = "\n[train]\nsteps = 4\nrank = 4\nbatch_tokens = 256\n[confirm]\ntop = 1\n"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where everything that the pages name is there, as pico models and data."""
    lab = tmp_path_factory.mktemp("lab")
    example = make_scenario(lab / "examples" / "swahili")
    shutil.rmtree(example.parent / "models")
    pico_model(lab / "models", name="smollm2-135m-instruct")
    text = example.read_text(encoding="utf-8").replace('"pico"', '"smollm2-135m-instruct"')
    for skill, name in (("copy", "sw_school"), ("reverse", "sw_things"), ("upper", "sw_missorted")):
        text = text.replace(f'name = "{skill}"', f'name = "{name}"')
    text = text.replace("top = 2", "top = 1").replace("steps = 12", "steps = 4")
    one = re.sub(r'\[\[datasets\]\]\nname = "sw_missorted"\n.*\n\n', "", text)
    for path, recipe in ((example, text), (example.with_name("demo.toml"), one)):
        path.write_text(recipe, encoding="utf-8")
    for name, recipe in (("quick", text), ("monday", one), ("tuesday", one)):
        here = re.sub(r'"(\w+\.jsonl)"', r'"examples/swahili/\1"', recipe)
        (lab / f"{name}.toml").write_text(here, encoding="utf-8")
    files(lab)
    own_language(lab / "my-language")
    return lab


def files(lab: Path) -> None:
    """The files that commands name by themselves."""
    for folder in ("target", "datasets", "usb", "export", "examples/swahili/target"):
        (lab / folder).mkdir()
    for name in ("dev", "test", "target/dev", "target/test", "examples/swahili/target/test"):
        pico_target(lab / f"{name}.jsonl", "copy", seed=2000 + len(name), wrong="upper")
    for name in ("my", "datasets/one", "datasets/two"):
        pico_dataset(lab / f"{name}.jsonl", "copy")
    words = "".join(f"kitabu {a}{b},book {b}{a}\n" for a in "abcdefgh" for b in "klmnop")
    (lab / "words.csv").write_text(words, "utf-8")
    (lab / "other.csv").write_text("prompt,completion\n" + "copy ab,ab\n" * 40, "utf-8")
    for name in ("FILE.gguf", "base.gguf", "usb/Qwen2.5-0.5B.gguf", "export/winner.gguf"):
        pico_gguf(lab / name)
    shutil.copytree(ROOT / "tests" / "golden" / "harness", lab / "tasks")


def own_language(folder: Path) -> None:
    """The recipe of docs/own-language.md with the files that it names."""
    folder.mkdir()
    (recipe,) = re.findall(r"```toml\n(.*?)```", PAGES["own-language.md"], re.DOTALL)
    (folder / "recipe.toml").write_text(recipe + QUICK, encoding="utf-8")
    pico_dataset(folder / "school.jsonl", "copy")
    (folder / "radio.csv").write_text("prompt,completion\n" + "copy ab,ab\n" * 40, "utf-8")
    pico_dataset(folder / "shuffled.jsonl", "reverse")
    pico_target(folder / "dev.jsonl", "copy", wrong="upper")
    pico_target(folder / "test.jsonl", "copy", seed=2000, wrong="upper")


@pytest.fixture
def in_lab(lab: Path) -> Iterator[Path]:
    adapters = lab / "examples" / "swahili" / "m2m-runs" / "recipe" / "adapters"
    for name, trained in (("A", "sw_school"), ("B", "sw_things")):
        if (adapters / trained).is_dir() and not (lab / name).exists():
            shutil.copytree(adapters / trained, lab / name)
    for lora in adapters.parent.glob("export/*LoRA.gguf"):
        shutil.copy(lora, lab / "lora.gguf")
    shutil.copy(lab / "quick.toml", lab / "recipe.toml")
    with chdir(lab):
        yield lab


@pytest.mark.parametrize(
    "line",
    [pytest.param(line, marks=[pytest.mark.slow] * bool(LONG.search(line))) for line in COMMANDS],
)
def test_every_command_runs(in_lab: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("M2M_MODELS", raising=False)
    arguments = [path for word in shlex.split(line.split(" > ")[0])[1:] for path in expanded(word)]
    if arguments[0] == "init":  # it replaces no recipe
        (in_lab / "recipe.toml").unlink()
    first = in_lab / "my-language" / "first.toml"
    if "my-language/first.toml" in arguments and arguments[0] != "init" and not first.exists():
        text = first.with_name("recipe.toml").read_text("utf-8")  # `m2m init` may run later
        first.write_text(text.replace('"qwen"', '"smollm2-135m-instruct"'), "utf-8")
    if "my-language/" in line and "add" not in arguments and not Path("models/qwen").exists():
        (add,) = (line for line in COMMANDS if "--name qwen" in line)  # a quick test, not run here
        CliRunner().invoke(cli, shlex.split(add)[1:], catch_exceptions=False)
    if arguments[0] in ("judge", "compare"):  # they show finished runs
        for recipe in (Path(word) for word in arguments if word.endswith(".toml")):
            if not (run_folder(recipe) / "confirm.json").is_file():
                CliRunner().invoke(cli, ["run", str(recipe), "--quiet"], catch_exceptions=False)
    typed = "Habari\n\n"
    if arguments == ["init"]:  # it asks, for a person at a terminal
        monkeypatch.setattr("m2m.cli.init.is_terminal", lambda: True)
        typed = "datasets/one.jsonl datasets/two.jsonl" + "\n" * 9
    found = CliRunner().invoke(cli, arguments, input=typed, catch_exceptions=False)
    assert found.exit_code == 0, found.stderr


INLINE = re.compile(r"`m2m ([a-z][^`]*)`")
BATCH = [ROOT / "examples" / "batch" / "README.md", *ROOT.glob("*.md")]


@pytest.mark.parametrize(
    "paths",
    [[*(ROOT / "docs").glob("*.md"), *BATCH], [*(ROOT / "m2m").rglob("*.py")]],
    ids=["pages", "messages"],
)
def test_every_command_within_a_sentence_has_its_options(paths: list[Path]) -> None:
    lines = []
    for path in paths:
        text = re.sub(r'"\s*\n\s*f?"', "", path.read_text(encoding="utf-8"))
        lines += [(path.name, line) for line in INLINE.findall(text)]
    assert len(lines) > 100
    for where, line in lines:
        words: list[str] = line.split()
        command: click.Command = cli
        while isinstance(command, click.Group) and words and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        assert command is not cli, (where, line)
        known = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
        given = re.findall(r"(?<![\w-])--?[a-z][\w-]*", " ".join(words))
        assert {*given} <= {*known, "--help", "-h"}, (where, line)


def expanded(word: str) -> list[str]:
    """What a shell makes of a word with a star."""
    return sorted(map(str, Path().glob(word))) if "*" in word else [word]


@pytest.mark.slow
def test_the_python_lines_for_an_exported_model_run(
    in_lab: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGES["use-the-model.md"], re.DOTALL)
    assert len(blocks) == 2
    names: dict[str, Any] = {}
    exec(compile("\n".join(blocks), "use-the-model.md", "exec"), names)
    assert names["answer"]["usage"]["completion_tokens"] > 0
    assert capfd.readouterr().out.strip()


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) >= 15


@pytest.mark.parametrize("name", PAGES)
def test_every_script_and_every_linked_file_exists(name: str) -> None:
    for script in set(re.findall(r"\bscripts/[\w.-]*\w", PAGES[name])):
        assert (ROOT / script).exists(), script
    folder = ROOT if name == "README.md" else ROOT / "docs"
    for link in re.findall(r"\]\(([^)#:]+)(?:#[\w-]*)?\)", PAGES[name]):
        assert (folder / link).exists(), link


@pytest.mark.parametrize("name", PAGES)
def test_every_linked_heading_exists(name: str) -> None:
    for page, heading in re.findall(r"\]\((?:docs/)?([\w-]+\.md)#([\w-]+)\)", PAGES[name]):
        titles = re.findall(r"^#+ (.*)$", PAGES[page], re.MULTILINE)
        assert heading in {re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles}


def test_what_is_generated_is_current() -> None:
    docs, page = runpy.run_path(str(ROOT / "scripts" / "docs.py")), PAGES["reference.md"]
    assert docs["current"](page) == page, "run scripts/docs.py"
    assert docs["fields"]() in page


def test_the_page_of_models_has_every_family_and_no_refused_one_twice() -> None:
    accepted, _, refused = PAGES["models.md"].partition("## Types that m2m refuses")
    for family in FAMILIES.values():
        assert f"| {family.title} | " in accepted, "run scripts/model_types.py"
        assert not any(f"`{kind}`" in refused for kind in family.model_types)
    kinds = re.findall(r"`([\w-]+)`", refused)
    assert len(kinds) == len(set(kinds)) > 100


def test_the_changed_fields_that_the_readme_shows_are_a_recipe(lab: Path) -> None:
    shown = PAGES["README.md"].partition("\n## Recipe\n")[2].partition("\n\n[")[0]
    changes = "\n".join(line.strip() for line in shown.splitlines() if line.startswith("    "))
    recipe = lab / "changed.toml"
    text = (lab / "quick.toml").read_text(encoding="utf-8").partition("[train]")[0]
    recipe.write_text(text + changes, encoding="utf-8")
    confirm = load_recipe(recipe).confirm
    assert (confirm.budget, confirm.max_passes) == ("until", 15.0)


def test_the_reference_has_the_help_of_every_command() -> None:
    docs = runpy.run_path(str(ROOT / "scripts" / "docs.py"))
    shown = set(re.findall(r"^### `m2m ?(.*)`$", PAGES["reference.md"], re.MULTILINE))
    assert {name for name in cli.commands} <= shown
    assert docs["commands"]().count("Usage:") == len(shown)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").rglob("*.toml")), ids=lambda p: p.name)
def test_every_example_recipe_is_valid(path: Path) -> None:
    assert load_recipe(path).datasets


def test_the_tables_of_field_cases_name_files_and_leave_out_none() -> None:
    cases = ROOT / "tests" / "cases"
    named = set(re.findall(r"`((?:\.\./)?[\w/]+\.py)`", (cases / "README.md").read_text("utf-8")))
    assert not [name for name in named if not (cases / name).is_file()]
    assert {path.name for path in cases.glob("test_*.py")} <= named


def test_the_pages_list_every_model_family() -> None:
    page = " ".join(PAGES["reference.md"].split())
    assert "".join(families.KNOWN.split()) in "".join(page.split())  # lines may end after hyphens
    for family in families.FAMILIES.values():
        assert f"| {family.title} | `{family.model_types[0]}`" in page


@pytest.mark.parametrize(
    ("name", "refused"),
    [("reference.md", r"Refused by name.*?\n\n"), ("README.md", r"\|[^|\n]*\| none: refused")],
)
def test_no_page_says_that_a_supported_family_is_refused(name: str, refused: str) -> None:
    (sentence,) = re.findall(refused, PAGES[name], re.DOTALL)
    for family in families.FAMILIES.values():
        for title in re.split("(?:,| and) (?=[A-Z])", re.sub(r" \(.*?\)", "", family.title)):
            assert not re.search(rf"\b{re.escape(title)}\b(?!\.\d)", sentence), title


def test_the_pages_share_the_work_with_the_same_commands() -> None:
    batch = (ROOT / "examples" / "batch" / "README.md").read_text(encoding="utf-8")
    pages = [PAGES["clusters.md"], batch]
    one, other = (
        re.findall(r"^    (m2m \w+) \S+( --share)?", page, re.MULTILINE) for page in pages
    )
    assert one == other[: len(one)]
    assert one.index(("m2m search", "")) < one.index(("m2m confirm", " --share"))


def test_the_pages_list_every_row_format() -> None:
    for name, (columns, _) in FORMATS.items():
        row = next(
            (line for line in PAGES["own-language.md"].splitlines()
             if line.startswith("| `") and all(f"`{c}`" in line.split("|")[1] for c in columns)),
            "",
        )  # fmt: skip
        assert row, name
        assert all(f"`{column}`" in row for column in READ.get(name, ())), name
        assert any(all(f'"{c}"' in shown for c in columns)
                   for shown in re.findall(r"`({.*?})`[,.]", PAGES["README.md"])), name  # fmt: skip
