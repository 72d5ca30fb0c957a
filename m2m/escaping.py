"""Write text of strangers safely: one function for each medium that m2m writes.

Names, licences, notes, answers and error texts may contain characters that control a terminal, a
browser, a spreadsheet or a parser. No function drops a character: a control character is written
out (`\\x1b`, `U+202E`). Joiners, marks and letters from right to left stay as they are, because
languages need them. `tests/hostile.py` is the table of texts that tests every function.
"""

from __future__ import annotations

import html
import json
import re

# DEL and C1, line and paragraph separators, controls of direction (Unicode Standard Annex 9; not
# the marks U+200E, U+200F and U+061C, which reverse no text), surrogates, byte order marks and the
# two non-characters that XML and YAML forbid.
_BEYOND = "\x7f-\x9f\u2028-\u202e\u2066-\u206f\ud800-\udfff\ufeff\ufffe\uffff"
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    **{sign: f"\\{sign}" for sign in "{}$&#_%"},
}
_UNQUOTED = re.compile(f"[{_BEYOND}]")  # JSON itself escapes C0
_CONTROL = re.compile(f"[\x00-\x08\x0b-\x1f{_BEYOND}]")
_BREAK = re.compile(r"[\t\n]")
_LAYOUT = re.compile(r"[\t\n]+")
_MARKS = re.compile(r"([\\`*_\[\]|#~$!])")
# A line of Markdown with such a start is an entry of a list, a rule or a heading.
_BLOCK = re.compile(r"^(\d{0,9})([-+=.)])")
# Excel and LibreOffice compute cells with such a start, also after spaces (OWASP, "CSV Injection");
# the last four are full width. If the separator is not a comma, a cell can begin within a text.
_FORMULA = frozenset("=+-@\uff1d\uff0b\uff0d\uff20")
_GAP = re.compile(r"^[\s'\"]*|[;\s'\"]+")  # everything that can precede such a sign
# Ollama skips characters that Go (by its version of Unicode) does not print, and joins the rest.
_THREE_QUOTES = re.compile(r'"(?=(?:[^\n\r\t -~]*"){2})')


def visible(text: str) -> str:
    """Write control characters out; keep line breaks and tabs."""
    return _CONTROL.sub(_written_out, text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """Write control characters out; replace each run of line breaks and tabs by a space."""
    return _LAYOUT.sub(" ", visible(text))


def html_text(text: str) -> str:
    """Return text for HTML, SVG and XML, inside an element or a quoted attribute."""
    return html.escape(visible(text), quote=True)


def markdown_text(text: str) -> str:
    """Return text for one line of Markdown, without HTML, links or the start of a block."""
    plain = one_line(text).strip().replace("&", "&amp;").replace("<", "&lt;")
    return _BLOCK.sub(r"\1\\\2", _MARKS.sub(r"\\\1", plain.replace(">", "&gt;")))


def latex_text(text: str) -> str:
    """Return text for one line of LaTeX, without commands, comments or columns."""
    plain = one_line(text).strip()
    return "".join(_LATEX.get(character, character) for character in plain)


def quoted(text: str | list[str]) -> str:
    """Return text or texts as JSON, which YAML and TOML read as well."""
    return escape_json(json.dumps(text, ensure_ascii=False))


def escape_json(document: str) -> str:
    """Escape the control characters in the strings of `json.dumps(..., ensure_ascii=False)`."""
    return _UNQUOTED.sub(lambda match: f"\\u{ord(match[0]):04x}", document)


def csv_text(text: str) -> str:
    """Return text for a cell that no spreadsheet computes, whatever its separator."""
    plain = visible(text)
    return _GAP.sub(lambda gap: _no_formula(gap, plain), plain)


def _no_formula(gap: re.Match[str], text: str) -> str:
    """Return spaces and quotes with a mark at each place where a formula could begin a cell."""
    if text[gap.end() : gap.end() + 1] not in _FORMULA:
        return gap[0]
    before, separator, after = gap[0].rpartition(";")
    mark = "'" if separator or gap.start() == 0 else ""
    return before + separator + mark + _BREAK.sub(r"\g<0>'", after)


def modelfile_value(text: str, *, long: bool = False) -> str:
    """Return a value for Ollama's Modelfile, which has no escapes.

    Args:
        text: the value for Ollama; the first of three double quotes becomes a single one.
        long: use three quotes even if the text does not need them.
    """
    text = no_three_quotes(text, "'")
    return f'"""{text}"""' if long or set(text) & set('"\n\r') else f'"{text}"'


def no_three_quotes(text: str, instead: str) -> str:
    """Replace the first of every three quotes, which would end a value in Ollama."""
    return _THREE_QUOTES.sub(lambda _: instead, text)


def _written_out(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x100:
        return "\\r" if code == 0x0D else f"\\x{code:02x}"
    return f"\\u{code:04x}" if 0xD800 <= code < 0xE000 else f"U+{code:04X}"
