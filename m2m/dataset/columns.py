"""The columns of a file's rows, and their names: letters of options, languages, or no names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from m2m.dataset.templates import field_names, is_empty, parsed, value_at
from m2m.formats.records import Record

_LANGUAGE = re.compile(r"(?:(?:text|sentence|sent)_)?([a-z]{2,3})(?:[_-][a-z]{2,4})?")
_MARKED = re.compile(
    r"(|(?:choices|options)\.|options?|opt|op|choice|answer|ans|mc_answer|ending|sol|(?:random_?fifth_?)?sentence_?quiz|candidate|alternative|distractor|incorrect_answer|chaguo|jibu)"
    r"_?([a-h]|\d)"
)
_LONGEST_NAME = 4  # words of a column's name
_FEW_WORDS, _MOSTLY = 2, 0.9

SIDES = {"src", "source", "tgt", "trg", "target", "ref"}  # in names of files

Columns = Mapping[str, list[Any]]  # the values of each column that are not empty

# Two columns with names of languages are a text and its translation.
LANGUAGE_NAMES = frozenset(
    re.findall(
        r"\w+",
        "english french portuguese arabic spanish german swahili kiswahili yoruba hausa igbo "
        "amharic tigrinya oromo somali zulu isizulu xhosa isixhosa shona ndebele sesotho sotho "
        "setswana tswana sepedi tsonga venda swati afrikaans kinyarwanda kirundi luganda ganda luo "
        "dholuo kikuyu gikuyu kamba lingala wolof fula fulah fulfulde bambara ewe twi akan fon "
        "mossi moore pidgin naija chichewa nyanja bemba tumbuka kikongo malagasy kabyle tamazight "
        "berber nko dinka nuer kanuri tiv edo efik ibibio urhobo ga dagbani runyankole runyankore "
        "rukiga rutooro lusoga lumasaba lugbara acholi ateso luhya kalenjin maasai turkana borana "
        "afar sidama wolaytta hadiyya gedeo zande chokwe umbundu kimbundu oshiwambo herero lozi "
        "silozi chitonga lunda luvale kaonde chiyao sena makhuwa changana xichangana xitsonga "
        "tshivenda siswati isindebele igala idoma nupe gbagyi ijaw itsekiri baoule dioula jula "
        "mandinka soninke serer susu temne mende kpelle krio sango ewondo duala sukuma makonde",
    )
)

# Codes of languages (ISO 639) that columns of translations have: all of two letters but "id" and
# "no", and those of three letters that files of translations use. Any other short word may be a
# cell: the first row of a word list.
LANGUAGE_CODES = frozenset(
    re.findall(
        r"\w+",
        "aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv "
        "cy da de dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr "
        "ht hu hy hz ia ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky "
        "la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn nr nv ny oc "
        "oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st "
        "su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za "
        "zh zu afr aka amh ara arb arz bam bem ben ber ces deu dik din dyu efi eng ewe fon fra fre "
        "ful fuv gaa gaz ger guz hau hin ibb ibo ind ita jpn kab kam kea kik kin kln kmb knc kon "
        "kor lin lua lug luo luy mas mer mey mlg mlg mos msa nbl nde nld nno nob nqo nso nus nya "
        "nyn orm pcm plt pol por run rus sag shi shn sna som sot spa srp ssw swa swc swe swh teo "
        "tha tir tiv tso tsn tuk tum tur twi tzm ukr umb urd urh ven vie wol xho yor zgh zho zul",
    )
)
_TITLE = re.compile(r"((question|post|thread)_?)?title|headline")


def columns_of(records: Sequence[Record]) -> dict[str, list[Any]]:
    """Return the columns that templates can name, with their values that are not empty."""
    columns: dict[str, list[Any]] = {}
    for record in records:
        opened = {key: _opened(value) for key, value in record.fields.items()}
        for name in field_names(opened):
            if not is_empty(value := value_at(record.fields, name, missing=None)):
                columns.setdefault(name, []).append(value)
    return columns


def _opened(value: Any) -> Any:
    """Return the object that a cell of a table holds as text."""
    is_object = isinstance(value, str) and value[:1] == "{" and value.rstrip()[-1:] == "}"
    return parsed(value) if is_object else value


def plain(name: str) -> str:
    """Return a column's name in small letters, with `_` for other signs than points."""
    return re.sub(r"[^\w.]+", "_", name.strip().lower()).strip("_")


def option_columns(names: Sequence[str]) -> list[str]:
    """Return the columns of the choices, in their order: A, B, C, D or choice1, choice2."""
    groups: dict[tuple[str, bool], dict[str, str]] = {}
    for name in names:
        if match := _MARKED.fullmatch(plain(name)):
            stem, mark = match.groups()
            groups.setdefault((stem, mark.isdecimal()), {})[mark] = name
    for (_, decimal), group in groups.items():
        marks = sorted(group)
        order = "0123456789" if decimal else "abcdefgh"
        first = order.find(marks[0])
        if len(marks) > 1 and first < 2 and order[first : first + len(marks)] == "".join(marks):
            return [group[mark] for mark in marks]
    return []


def title_of(columns: Columns) -> str:
    """Return the column with the title of each row, which may be part of its question; or ""."""
    return next((name for name in columns if _TITLE.fullmatch(plain(name))), "")


def languages_of(columns: Columns) -> list[str]:
    """Return the columns of texts that are named by a language, or by its code."""
    return [
        name
        for name, values in columns.items()
        if _is_language(_inner(name)) and all(isinstance(value, str) for value in values)
    ]


def language_code(name: str) -> str:
    """Return the code of the language in a column's name: "eng" of sentence_eng_Latn."""
    match = _LANGUAGE.fullmatch(_inner(name))
    return match[1] if match else plain(name)


def _inner(name: str) -> str:
    """Return the plain name of a column, without the object `translation` around it."""
    return re.sub(r"^translations?\.", "", plain(name))


def _is_language(name: str) -> bool:
    return name in LANGUAGE_NAMES or language_code(name) in LANGUAGE_CODES


def is_side(name: str) -> bool:
    """Return whether a part of a file's name says which side of a translation it has."""
    return _is_language(name.lower()) or name.lower() in SIDES


def looks_like_data(name: str) -> bool:
    """Return whether a column's name is rather a cell of a table without a header."""
    return (
        len(name.split()) > _LONGEST_NAME
        or bool(re.fullmatch(r"-?\d+([.,]\d+)?|https?://.*", name.strip()))
        or bool(re.search("[!?\u061f\u1362]$|[^.]{5}\\.$", name.rstrip()))  # "No." is a name
    )


def single(name: str, records: Sequence[Record]) -> bool:
    """Return whether every list on the way to a field has one item."""
    steps = name.split(".")
    above = [".".join(steps[:i]) for i, step in enumerate(steps) if step == "0"]
    lists = [value_at(record.fields, each, missing=[]) for record in records for each in above]
    return all(len(each) < 2 for each in lists if isinstance(each, list))


def agreed(name: str, records: Sequence[Record]) -> bool:
    """Return whether all people who marked a row gave it the same answer."""
    every = name.replace(".0.", ".*.", 1)
    values = [value_at(record.fields, every, missing=[]) for record in records]
    return all(len({*map(str, each)}) < 2 for each in values if isinstance(each, list))


def are_words(columns: Columns, names: Sequence[str]) -> bool:
    """Return whether columns hold words, and hardly a sentence."""
    counts = [len(str(value).split()) for name in names for value in columns[name]]
    return sum(count <= _FEW_WORDS for count in counts) > _MOSTLY * len(counts)
