"""Functions of task files are computed from their syntax tree, as Python computes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from m2m.templates.functions import Function, cells, imports_of
from m2m.templates.parent import Refused

DOC: dict[str, Any] = {
    "q": " Ẹ kú àárọ̀ _? ",
    "opts": ["ọkan ", "èjì", "", "mẹ́ta"],
    "n": 3,
    "answer": "b",
    "deep": {"text": ["x", "y"], "label": ["A", "B"]},
    "rate": 0.25,
    "none": None,
}
FORMULAS = [
    'return f\'Q: {doc["q"].strip()!r:>20}|{doc["n"]:03d}|{doc["rate"]:.1%}\'',
    "return [f'{c}. {o}' for c, o in zip('ABCD', doc['opts']) if o]",
    "return {'A': 0, 'B': 1}[doc['answer'].upper()]",
    "return doc.get('missing', 'x') + '{0[text][1]} {n}'.format(doc['deep'], n=doc['n'])",
    "out = ''\n    for i, o in enumerate(doc['opts']):\n        if not o:\n            continue\n"
    "        out += '%d %s\\n' % (i, o)\n    else:\n        out += 'end'\n    return out",
    "x, *y = 1, 2",
    "(a, b), c = (1, 2), 3\n    return [a, b, c, *doc['opts'][1:3]]",
    "return re.sub(r'\\s+', ' ', doc['q']) + str(sorted(doc['opts'], key=len))",
    "try:\n        return doc['opts'].index('z')\n    except ValueError:\n        return -1",
    "try:\n        return doc['opts'].index('z')\n    except KeyError as e:\n        return -1",
    "return {k: len(v) for k, v in doc['deep'].items()} | {'z': bool(doc['none'])}",
    "return doc['q'][doc['q'].index('_') + 1:].strip() or None",
    "return helper(doc, sep='; ')",
    "return sum(x * 2 for x in range(5)) // 3 + (-7 % 3) + 2.5",
    "return 1 < doc['n'] <= 3 != 4 and not doc['none']",
    "return list(map(lambda x: x.title(), filter(None, doc['opts'])))",
    "return doc['missing']",
    "assert doc['none'], 'no'\n    return 1",
    "doc['opts'].append('new')\n    return doc['opts'] + [string.ascii_uppercase[:3]]",
    "return (1, 'a')",
    "return any(o == '' for o in doc['opts']) + True",
    "return ast.literal_eval('[1, \"a\"]') + json.loads('[null, 2]')",
    "return next((o for o in doc['opts'] if 'j' in o), '')",
    "return [len(doc['q'].encode('utf-8')), doc['q'].encode().decode('utf-8')]",
]
HEAD = (
    "import ast, json, os, random, re, string\n"
    "def helper(doc, sep=', ', *more, **named):\n    return sep.join(doc['opts'])\n"
)


@pytest.mark.parametrize("body", FORMULAS)
def test_a_formula_gives_what_python_gives(body: str) -> None:
    source = f"{HEAD}def f(doc):\n    {body}\n"
    names: dict[str, Any] = {}
    exec(source, names)  # the reference: this text is the test's own
    try:
        expected: Any = names["f"]({**DOC, "opts": [*DOC["opts"]]})
    except (AssertionError, KeyError, ValueError) as error:
        expected = error
    try:
        function = Function({"u": source}, {}, "u", "f", "a test")
        ((done, value),) = cells([(function, "text")], [DOC], "a test")[0]
    except Refused as refused:
        assert "*y" in body, refused  # left out of the language
        return
    if isinstance(expected, Exception):
        assert not done
    elif isinstance(expected, tuple):
        assert repr(value) == repr(expected)
    else:
        assert done, value
        assert (value, type(value)) == (expected, type(expected))


@pytest.mark.parametrize(
    "body",
    [
        "return open('/etc/passwd').read()",
        "return __import__('os').system('true')",
        "return ().__class__.__base__",
        "return '{0.__class__}'.format(doc)",
        "return f'{helper}'",
        "return '%s' % helper",
        "return str(doc.keys)",
        "return os.environ['HOME']",
        "return random.choice(doc['opts'])",
        "return eval('1')",
        "return getattr(doc, 'keys')()",
        "import os\n    return os.getcwd()",
        "while True:\n        pass",
        "with doc as f:\n        return f",
        "return helper.__globals__",
        "return 9 ** 9 ** 9",
        "for i in range(10 ** 9):\n        pass",
        "global X\n    X = 1",
        "return re.__dict__",
        "return type(doc)",
        "return (lambda: (yield))()",
        "class A:\n        pass",
        pytest.param("for i in range(10000000):\n        i = 1", marks=pytest.mark.slow),
    ],
)
def test_what_is_no_formula_is_refused(body: str) -> None:
    source = f"{HEAD}def f(doc):\n    {body}\n"
    with pytest.raises(Refused):
        function = Function({"u": source}, {}, "u", "f", "a test")
        cells([(function, "text")], [DOC], "a test")


def test_rows_are_picked_and_changed_as_datasets_does() -> None:
    source = (
        "from functools import partial\nimport datasets\n"
        "def pick(dataset: datasets.Dataset, subject):\n"
        "    return dataset.filter(lambda x: x['s'] == subject).map(\n"
        "        lambda x: {'t': (x['s'], x['n'])}, remove_columns=['n'])\n"
        "pick_b = partial(pick, subject='b')\n"
        "def chance(dataset):\n    return dataset.shuffle(seed=1)\n"
        "for name in ('c', 'd'):\n    globals()[f'pick_{name}'] = partial(pick, subject=name)\n"
    )
    rows = [{"s": "a", "n": 1}, {"s": "b", "n": 2}, {"s": "d", "n": 3}]
    made = Function({"u": source}, {}, "u", "pick_b", "a test").table(rows, [1, 2, 3])
    assert made == ([{"s": "b", "t": ["b", 2]}], [2])
    made = Function({"u": source}, {}, "u", "pick_d", "a test").table(rows, [1, 2, 3])
    assert made == ([{"s": "d", "t": ["d", 3]}], [3])
    with pytest.raises(Refused, match="shuffle"):
        Function({"u": source}, {}, "u", "chance", "a test").table(rows, [1, 2, 3])


def test_the_name_of_a_modules_folder_is_known_and_no_folder_above_it(tmp_path: Path) -> None:
    source = (
        "import os\nfrom os.path import basename, dirname\nlang = basename(dirname(__file__))\n"
        "def f(doc):\n    return lang + os.path.basename(__file__)\n"
        "def up(doc):\n    return dirname(dirname(__file__))\n"
    )
    names: dict[str, Any] = {"__file__": str(tmp_path / "sw" / "utils.py")}
    exec(source, names)  # the reference: this text is the test's own
    function = Function({"utils": source}, {}, "utils", "f", "a test", "sw")
    assert cells([(function, "text")], [DOC], "a test") == [[(True, names["f"](DOC))]]
    other = str(tmp_path / "yo" / "utils")
    function = Function({other: source}, {}, other, "f", "a test", "sw")
    assert cells([(function, "text")], [DOC], "a test") == [[(True, "youtils.py")]]
    with pytest.raises(Refused, match="folders above"):
        function = Function({"utils": source}, {}, "utils", "up", "a test", "sw")
        cells([(function, "text")], [DOC], "a test")


FILE_READERS = {
    "path": (
        "import json\nfrom pathlib import Path\nHOME = Path(__file__).resolve().parent\n"
        "with (HOME.parent / 'names.json').open(encoding='utf-8') as f:\n    NAMES = json.load(f)\n"
        "for name in NAMES:\n    globals()[f'f_{name}'] = lambda doc, n=name: NAMES[n] + HOME.name"
    ),
    "open": (
        "import json, os\nwith open(os.path.join(os.path.dirname(__file__), 'own.txt')) as f:\n"
        "    LINES = [line.strip() for line in f]\ndef f_a(doc):\n    return LINES\n"
    ),
    "text": "import pathlib\nT = pathlib.Path(__file__).parent.joinpath('own.txt').read_text()\n"
    "def f_a(doc):\n    return T.splitlines()\n",
}


@pytest.mark.parametrize("kind", FILE_READERS)
def test_data_files_that_the_parent_gives_are_read_as_python_reads_them(
    kind: str, tmp_path: Path
) -> None:
    source = FILE_READERS[kind]
    files = {"names.json": '{"a": "ọ̀kan"}', "sw/own.txt": "moja\r\nmbili\n"}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text.encode("utf-8"))
    names: dict[str, Any] = {"__file__": str(tmp_path / "sw" / "utils.py")}
    exec(source, names)  # the reference: this text is the test's own
    assert {Path(name).name for name in files} >= {*imports_of(source, "a test")[1]}
    function = Function({"utils": source}, {}, "utils", "f_a", "a test", "sw", files)
    assert cells([(function, "text")], [DOC], "a test") == [[(True, names["f_a"](DOC))]]
    with pytest.raises(Refused, match=r"names\.json|own\.txt"):
        other = Function({"utils": source}, {}, "utils", "f_a", "a test", "sw", {})
        cells([(other, "text")], [DOC], "a test")


@pytest.mark.parametrize(
    "expression",
    [
        "open('/etc/hostname').read()",
        "open('own.txt', 'w')",
        "open(__file__).read()",
        "Path('..').read_text()",
        "Path(__file__).parent.parent.parent.name",
        "(Path(__file__).parent / '../own.txt').read_text()",
        "Path('own.txt').unlink()",
        "Path('own.txt').read_text('latin-1')",
        "open('own.txt').__class__",
        "str(Path('own.txt'))",
    ],
)
def test_no_other_file_is_read(expression: str) -> None:
    source = f"from pathlib import Path\ndef f(doc):\n    return {expression}\n"
    function = Function({"utils": source}, {}, "utils", "f", "a test", "sw", {"own.txt": "x"})
    with pytest.raises(Refused):
        cells([(function, "text")], [DOC], "a test")


def test_functions_of_one_text_are_read_together_until_one_has_run() -> None:
    source = (
        "seen = []\ndef f(doc):\n    seen.append(1)\n    return len(seen)\n"
        "def g(doc):\n    return len(seen)\n"
    )
    f = Function({"u": source}, {}, "u", "f", "a test")
    g = Function({"u": source}, {}, "u", "g", "a test")
    for one in (f, g):  # f changes what g reads
        with pytest.raises(Refused, match="u: seen changes from row to row"):
            cells([(one, "text")], [DOC], "a test")
    other = Function({"u": source}, {}, "u", "g", "a test")
    assert cells([(other, "text")], [DOC], "a test") == [[(True, 0)]]
