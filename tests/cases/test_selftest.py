"""What was scored is what runs: the exported file is asked what it was trained on.

The kind: a GGUF that answers well with m2m's prompt, and badly or without an end in the hands of
others. The reference is llama-cpp-python's chat completion with the file's own template.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import llama_cpp
import pytest
from click.testing import CliRunner
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from m2m.checkpoint import import_model
from m2m.cli.main import cli
from m2m.dataset.rows import Row
from m2m.errors import Interrupted
from m2m.formats.gguf import GGUFFile, GGUFTensorSpec, GGUFValue, GGUFValueType, write_gguf
from m2m.llamacpp import asking
from m2m.llamacpp.asking import own_template
from m2m.mix.mixture import Mixture
from m2m.pipeline.export import question_of, self_test
from m2m.pipeline.inputs import Inputs, formatter_as_trained, read_inputs
from m2m.recipe import load_recipe
from tests.pipeline.scenario import make_scenario
from tests.templates import BOS, EOS, KINDS, formatter_of, turn
from tests.tiny import CHATML, pico_dataset, pico_gguf, write_jsonl

COPY = Mixture.uniform(("copy",))
TEMPLATE, TOKENS = "tokenizer.chat_template", "tokenizer.ggml.tokens"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe whose only dataset a pico model learns by heart."""
    folder = tmp_path_factory.mktemp("selftest")
    path = make_scenario(folder)
    pico_dataset(folder / "copy.jsonl", "copy", count=8)
    text = path.read_text(encoding="utf-8")
    head, _, tail = text.partition('[[datasets]]\nname = "reverse"')
    text = f"{head}[[targets]]{tail.partition('[[targets]]')[2]}"
    for old, new in (
        ("steps = 12", "steps = 300"),
        ("rank = 4", "rank = 16"),
        ("5e-3", "1e-2"),
        ("checkpoint_every = 3", "checkpoint_every = 300"),
        ("top = 2", "top = 1\nbaselines = []"),
    ):
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def exported(recipe: Path) -> dict[str, object]:
    """What `m2m run --json` prints."""
    found = CliRunner().invoke(cli, ["run", str(recipe), "--json", "--quiet"])
    assert found.exit_code == 0, found.output
    return dict(json.loads(found.stdout))


@pytest.fixture
def inputs(recipe: Path) -> Inputs:
    return read_inputs(load_recipe(recipe))


def changed(source: Path, out: Path, **metadata: GGUFValue) -> Path:
    """A GGUF with other values in its metadata."""
    file = GGUFFile(source)
    specs = [GGUFTensorSpec(t.name, t.shape, t.type) for t in file.tensors.values()]
    write_gguf(out, {**file.metadata, **metadata}, specs, map(file.raw, file.tensors))
    return out


@pytest.mark.slow
def test_the_exported_file_answers_as_trained(recipe: Path, exported: dict[str, object]) -> None:
    expected = {"exact": 8, "exact_with_m2m_prompt": 8, "stops": 8, "questions": 8}
    found = exported["self_test"]
    assert isinstance(found, dict)
    assert expected.items() <= found.items()
    assert found["warnings"] == []
    assert exported["serving"] == []
    folder = recipe.parent / "m2m-runs" / "recipe"
    for name in ("export/README.md", "report.html"):
        text = (folder / name).read_text(encoding="utf-8")
        assert "answers 8 of 8 training questions as trained" in text
    shown = CliRunner().invoke(cli, ["export", str(recipe), "--quiet"])
    assert "and stops by itself in 8 of 8." in shown.stdout


@pytest.mark.slow
def test_fixed_variables_are_in_the_exported_file(recipe: Path, tmp_path: Path) -> None:
    # Like Qwen3's: with thinking off, the prompt ends with an empty thought.
    thinks = (
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
        "{% if enable_thinking is defined and not enable_thinking %}"
        "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
    )
    source = CHATML[: CHATML.index("{% if add_generation_prompt %}")] + thinks
    folder = Path(shutil.copytree(recipe.parent, tmp_path / "fixed"))
    shutil.rmtree(folder / "m2m-runs", ignore_errors=True)
    base = pico_gguf(tmp_path / "thinks.gguf", metadata={TEMPLATE: GGUFValue.string(source)})
    import_model(base, folder / "models" / "thinks", name="thinks")
    text = recipe.read_text(encoding="utf-8")
    line = 'model = "thinks"\ntemplate_variables = { enable_thinking = false }\n'
    text = text.replace('model = "pico"\n', line)
    (folder / "recipe.toml").write_text(text, encoding="utf-8")
    run = CliRunner().invoke(cli, ["run", str(folder / "recipe.toml"), "--json", "--quiet"])
    assert run.exit_code == 0, run.output
    result = json.loads(run.stdout)
    expected = {"exact": 8, "exact_with_m2m_prompt": 8, "stops": 8, "questions": 8}
    assert expected.items() <= result["self_test"].items()
    files = sorted((folder / "m2m-runs" / "recipe" / "export").glob("*.gguf"))
    (lora,) = (file for file in files if "LoRA" in file.name)
    (export,) = (file for file in files if file != lora)
    template = GGUFFile(export).value(TEMPLATE)
    asked = formatter_of(template).tokenizer.decode(formatter_of(template).prompt_ids("a"))
    assert asked.endswith("<think>\n\n</think>\n\n")
    # The LoRA on the unchanged base is asked in the same way, by chat and by eval.
    formatter = formatter_as_trained(GGUFFile(base), lora)
    assert formatter.tokenizer.decode(formatter.prompt_ids("a")) == asked


@pytest.mark.slow
def test_another_template_in_the_file_is_said(
    exported: dict[str, object], inputs: Inputs, tmp_path: Path
) -> None:
    other = CHATML.replace("message['role'] + '\n'", "message['role'] + ': '")
    file = changed(
        Path(str(exported["gguf"])),
        tmp_path / "other.gguf",
        **{TEMPLATE: GGUFValue.string(other.replace("'user'", "'x'"))},
    )
    found = self_test(inputs, COPY, file)
    assert found.own_exact == 8
    assert found.exact < 8
    assert any("With m2m's prompt the model answers 8 of 8" in said for said in found.warnings)


@pytest.mark.slow
def test_a_file_that_does_not_stop_is_said(
    exported: dict[str, object], inputs: Inputs, tmp_path: Path
) -> None:
    source = GGUFFile(Path(str(exported["gguf"])))
    tokens = source.value(TOKENS)
    names = GGUFValue.array(GGUFValueType.STRING, [*tokens[:2], "<|x|>", *tokens[3:]])
    ends = {f"tokenizer.ggml.{key}_token_id": GGUFValue.uint32(0) for key in ("eos", "eot")}
    file = changed(source.path, tmp_path / "endless.gguf", **{TOKENS: names, **ends})
    found = self_test(inputs, COPY, file)
    assert found.stops == 0
    assert "stops by itself in 0 of 8" in found.sentence
    assert "normal" not in found.sentence
    assert any(
        said.startswith("8 of 8 answers in the self-test did not") for said in found.warnings
    )


@pytest.mark.slow
def test_a_model_that_learned_nothing_is_no_fault(inputs: Inputs, tmp_path: Path) -> None:
    found = self_test(inputs, COPY, pico_gguf(tmp_path / "pico.gguf"))
    assert (found.questions, found.exact, found.own_exact) == (8, 0, 0)
    calm = dataclasses.replace(found, stops=8)
    assert calm.sentence.endswith("as trained, which is normal after short training.")
    assert calm.warnings == []


def test_a_crash_is_a_warning(inputs: Inputs, tmp_path: Path) -> None:
    file = tmp_path / "broken.gguf"
    file.write_bytes(inputs.base.gguf.path.read_bytes()[:5000])
    found = self_test(inputs, COPY, file)
    assert found.failed
    assert "llama.cpp ended with 1" in found.sentence
    assert "The self-test failed" in found.warnings[0]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
def test_an_interrupt_is_no_fault_of_the_file(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "_START", "import os; os.kill(os.getpid(), 15)")
    with pytest.raises(Interrupted, match=r"stopped while pico.gguf answered questions"):
        self_test(inputs, COPY, pico_gguf(tmp_path / "pico.gguf"))


def test_texts_have_no_self_test(recipe: Path, tmp_path: Path) -> None:
    texts = write_jsonl(tmp_path / "copy.jsonl", [{"text": "habari"}] * 3)
    loaded = load_recipe(recipe)
    datasets = (dataclasses.replace(loaded.datasets[0], path=texts),)
    found = self_test(
        read_inputs(dataclasses.replace(loaded, datasets=datasets)), COPY, tmp_path / "none.gguf"
    )
    assert found.sentence.startswith("Self-test: not made; the data has no question")
    assert found.warnings == []


def test_a_conversation_is_asked_up_to_its_last_answer(inputs: Inputs) -> None:
    said = [
        {"role": role, "content": text}
        for role, text in (
            ("system", "s"),
            ("user", "a"),
            ("assistant", "b"),
            ("user", "c"),
            ("assistant", "d e"),
            ("user", "f"),
        )
    ]
    found = question_of(Row(1, messages=tuple(said)), inputs.formatter)
    assert found is not None
    assert found[0].messages == said[:4]
    assert found[1] == ["d e", "d e"]
    assert question_of(Row(1, text="abc"), inputs.formatter) is None
    tools = [{**said[1], "tool_calls": [1]}, said[2]]
    assert question_of(Row(1, messages=tuple(tools)), inputs.formatter) is None


@pytest.mark.parametrize("kind", ["refuses system", "folds system", "chatml"])
@pytest.mark.parametrize("role", ["system", "developer"])
def test_system_messages_are_asked_as_the_export_says(kind: str, role: str) -> None:
    """A row with one ended the self-test of a template that refuses it."""
    formatter = formatter_of(KINDS[kind])
    said = (turn(role, "s"), turn("user", "a"), turn("assistant", "b"))
    found = question_of(Row(1, messages=said), formatter)
    assert found is not None
    theirs = Jinja2ChatFormatter(template=KINDS[kind], eos_token=EOS, bos_token=BOS)
    sent = theirs(messages=[dict(m) for m in found[0].messages]).prompt  # type: ignore[misc]
    assert formatter.tokenizer.encode(sent, special=True) == found[0].prompt


def test_llama_cpp_python_uses_the_files_own_template(tmp_path: Path) -> None:
    """For the text of ChatML it would put in an empty system turn."""
    asked = [{"role": "user", "content": "copy abc"}]
    kept: dict[bool, str] = {}
    for kind in (False, True):
        template = own_template(CHATML) if kind else CHATML
        path = pico_gguf(tmp_path / f"{kind}.gguf", metadata={TEMPLATE: GGUFValue.string(template)})
        model = llama_cpp.Llama(str(path), n_ctx=64, verbose=False)
        said = model.create_chat_completion(messages=asked, max_tokens=1, temperature=0.0)
        ids = model.input_ids[: said["usage"]["prompt_tokens"]].tolist()
        kept[kind] = model.detokenize(ids, special=True).decode()
    assert kept[False].startswith("<|im_start|>system")  # else `own_template` is needed no more
    assert kept[True] == "<|im_start|>user\ncopy abc<|im_end|>\n<|im_start|>assistant\n"
    assert own_template("{{ x }}") == "{{ x }}"
