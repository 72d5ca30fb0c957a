"""`m2m doctor` on this machine, and with parts of it broken for real."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from m2m.cli.main import cli
from m2m.commands.doctor import Finding, device_checks, diagnose
from m2m.ggml.devices import Device, list_devices
from m2m.llamacpp.build import Build, installed_build
from m2m.llamacpp.model import build_info
from m2m.machine import cpu_features, free_memory_bytes, total_memory_bytes, versions
from m2m.pipeline.inputs import model_folders
from tests.conftest import REPOSITORY
from tests.tiny import pico_model


def by_name(found: list[Finding]) -> dict[str, Finding]:
    return {each.name: each for each in found}


def test_a_working_machine_has_no_problem(tmp_path: Path) -> None:
    found = diagnose(tmp_path)
    assert [each.name for each in found if each.state == "problem"] == []
    assert all(each.remedy for each in found if each.state != "ok")
    names = by_name(found)
    assert build_info().split(" | ")[0] in names["llama.cpp"].value
    assert "billion a second" in names["calculations"].value


def test_a_folder_of_models_is_looked_into_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("M2M_MODELS", str(tmp_path / "models"))
    found = model_folders(tmp_path / "recipe.toml")
    assert found[0] == tmp_path / "models"
    assert len(found) == len({*found}) == len(tmp_path.parents) + 1


@pytest.mark.slow
def test_models_are_opened_and_a_damaged_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pico_model(tmp_path)
    monkeypatch.setenv("M2M_MODELS", str(tmp_path))
    assert by_name(diagnose(tmp_path))["pico"].state == "ok"
    weights = folder / "base.gguf"
    weights.write_bytes(weights.read_bytes()[:-10])
    damaged = by_name(diagnose(tmp_path))["pico"]
    assert damaged.state == "problem"
    assert "base.gguf" in damaged.value


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n", "signal 4"),
        ("raise OSError('libllama.so: cannot open')\n", "cannot open"),
    ],
)
def test_a_llama_cpp_that_cannot_be_loaded_is_told_and_does_not_end_the_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    (tmp_path / "llama_cpp").mkdir()
    (tmp_path / "llama_cpp" / "__init__.py").write_text(code, encoding="utf-8")

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(REPOSITORY)]))
    build = installed_build()
    assert build.error is not None
    assert said in build.error
    assert by_name(diagnose(tmp_path))["llama.cpp"].state == "problem"


def test_the_build_has_the_features_of_its_description() -> None:
    build = installed_build()
    assert build.error is None
    assert build.description == build_info()
    assert all(f"{feature} = 1" in build.description for feature in build.features)
    assert build.features
    assert [device.name for device in build.devices] == [device.name for device in list_devices()]


def test_each_device_is_a_line_with_its_use() -> None:
    """The GPU is a description: no test machine has one."""
    cpu = Device("CPU", "Some processor", "cpu", 8 << 30, 8 << 30)
    card = Device("Vulkan0", "Some card", "gpu", 3 << 30, 4 << 30)
    lines = list(device_checks(Build(devices=(card, cpu))))
    assert [line.value for line in lines] == [
        "Some card, 3.0 GiB free of 4.0, for training and scoring",
        "Some processor, for training and scoring",
    ]
    assert lines[0].remedy
    assert "gpu_layers = -1 scores" in lines[0].remedy


def test_the_machine_is_described() -> None:
    assert total_memory_bytes() >= free_memory_bytes() > 0
    assert all(name == name.upper() for name in cpu_features())
    assert versions()["numpy"]


def test_the_command_exits_by_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pico_model(tmp_path)
    monkeypatch.setenv("M2M_MODELS", str(tmp_path))
    (folder / "base.gguf").write_bytes(b"")
    found = CliRunner().invoke(cli, ["doctor", "--json"])
    assert found.exit_code == 1
    printed = json.loads(found.stdout)
    assert not printed["ok"]
    assert {"name", "value", "state", "remedy", "part"} == printed["checks"][0].keys()
    shutil.rmtree(folder)
    pico_model(tmp_path)
    well = CliRunner().invoke(cli, ["doctor"])
    assert well.exit_code == 0
    assert "llama.cpp" in well.stdout


@pytest.mark.slow
def test_the_folder_is_told_apart_from_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lab").mkdir()
    monkeypatch.chdir(tmp_path / "lab")
    found = CliRunner().invoke(cli, ["doctor"])
    head = {line: place for place, line in enumerate(found.stdout.splitlines())}
    assert head["This machine"] < head["Base models"] < head["This folder"]
    assert found.stdout.splitlines()[-1] == "Next       m2m models known"
    # A virtual environment next to models: they are found from every folder.
    pico_model(tmp_path / "models")
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    listed = CliRunner().invoke(cli, ["models", "list", "--json"])
    assert [model["name"] for model in json.loads(listed.stdout)] == ["pico"]
    for number in range(7):
        Path(f"data{number}.xlsx").write_bytes(b"")
    found = CliRunner().invoke(cli, ["doctor"])
    assert "data2.xlsx, data3.xlsx, data4.xlsx and 2 more" in found.stdout
    assert found.stdout.splitlines()[-1] == "Next       m2m init"
    Path("bad.toml").write_text("[base]\n[[datasets]]\n", encoding="utf-8")
    Path("other.toml").write_text("[tool]\n", encoding="utf-8")
    found = CliRunner().invoke(cli, ["doctor"])
    assert found.stdout.splitlines()[-1] == "Next       m2m data check bad.toml"
    assert "bad.toml: 4 problems" in found.stdout
    dataset, target = '[[datasets]]\nname = "a"\npath', '[[targets]]\nname = "t"\ndev'
    text = f'[base]\nmodel = "pico"\n{dataset} = "data1.xlsx"\n{target} = "data2.xlsx"\n'
    Path("my.toml").write_text(text, encoding="utf-8")
    found = CliRunner().invoke(cli, ["doctor"])
    assert found.stdout.splitlines()[-1] == "Next       m2m run my.toml"
    if os.name == "posix" and os.getuid() != 0:
        Path().chmod(0o555)
        found = CliRunner().invoke(cli, ["doctor"])
        assert "m2m cannot work in this folder: disk" in found.stderr


def test_the_version_names_everything() -> None:
    lines = CliRunner().invoke(cli, ["--version"]).stdout.splitlines()
    assert lines[0].startswith("m2m ")
    assert any(line.startswith("llama-cpp-python ") for line in lines)
