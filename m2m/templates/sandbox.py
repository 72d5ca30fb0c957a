"""The Jinja environment for templates from strangers' files; they cannot reach anything outside.

Only the child process imports this module (m2m.templates.child); the operating system limits the
memory and time of that process. This module adds rules that a limit cannot give: only the methods
and filters that chat templates use exist, and no text depends on the address of an object. It also
counts loops and calls, so that a usual endless template is refused at the same round on every
machine, long before its time is used up.
"""

from __future__ import annotations

import datetime
import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.filters import make_attrgetter
from jinja2.parser import Parser
from jinja2.runtime import Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

_MAX_OUTPUT = 16 * 2**20  # characters
_MAX_STEPS = 2**18  # rounds of loops and calls
_MAX_SOURCE = 2**20  # characters

_TEXT_METHODS = [
    "capitalize", "count", "endswith", "find", "format", "index",
    "isalnum", "isalpha", "isdigit", "islower",
    "isnumeric", "isspace", "isupper", "join", "lower", "lstrip", "partition", "removeprefix",
    "removesuffix", "replace", "rfind", "rpartition", "rsplit", "rstrip", "split", "splitlines",
    "startswith", "strip", "title", "upper",
    "casefold", "isascii", "isdecimal", "isprintable", "istitle", "rindex", "swapcase",
]  # fmt: skip
_METHODS: dict[type, frozenset[str]] = {
    str: frozenset(_TEXT_METHODS),
    dict: frozenset({"get", "items", "keys", "values"}),
    list: frozenset({"count", "index"}),
    tuple: frozenset({"count", "index"}),
    int: frozenset(),
    float: frozenset(),
}
_FILTERS = [
    "abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float",
    "groupby", "int", "items", "last", "length", "list", "lower", "map", "max", "min", "reject",
    "rejectattr", "replace", "reverse", "safe", "select", "selectattr", "sort", "title", "trim",
    "unique", "upper",
]  # fmt: skip
_WRITES = ["capitalize", "e", "escape", "lower", "replace", "safe", "title", "trim", "upper"]
# The other filters that the templates of tasks have: Jinja's own ones.
_OF_TASKS = [
    "batch", "filesizeformat", "round", "slice", "sum", "urlize", "wordcount", "xmlattr",
]  # fmt: skip
_OF_TASKS_WRITES = [
    "center", "forceescape", "indent", "pprint", "striptags", "tojson", "truncate", "urlencode",
    "wordwrap",
]  # fmt: skip
_COUNTED, _JOINED = "m2m_counted", "m2m_joined"
_PLAIN = (str, int, float, Undefined, type(None))


class _Generation(Extension):
    """`{% generation %}`: some templates mark the answers with it, for transformers."""

    tags = {"generation"}  # noqa: RUF012 (declared so by Jinja)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Sandbox(ImmutableSandboxedEnvironment):
    """Compiles and renders templates, one rendering at a time.

    Args:
        day: the date that `strftime_now` uses as today.
        of_tasks: whether there are the filters of lm-evaluation-harness (lm_eval/utils.py, `env`).
        options: the options of Jinja's environment.
    """

    intercepted_binops = frozenset(["**", "%"])

    def __init__(self, day: datetime.date, *, of_tasks: bool = False, **options: Any) -> None:
        super().__init__(extensions=["jinja2.ext.loopcontrols", _Generation], **options)
        self._steps = 0
        self.finalize = _writable
        own: dict[str, Callable[..., Any]] = {
            "format": self._format,
            "indent": _indent,
            "join": self._join,
            "string": lambda value: str(_writable(value)),
            "tojson": _to_json,
            _COUNTED: self._counted,
            _JOINED: lambda values: "".join(map(str, _writable(values))),
        }
        theirs = self.filters
        kept = {name: self._counting(name, theirs[name]) for name in _FILTERS}
        self.filters = kept | own
        if of_tasks:
            for name in (*_OF_TASKS, *_OF_TASKS_WRITES):
                self.filters[name] = self._counting(name, theirs[name])
            self.filters["regex_replace"] = self._counting("", _regex_replace)
        del self.globals["lipsum"]
        self.globals["dict"] = lambda *pairs, **more: dict(*pairs, **more)
        self.globals["raise_exception"] = _raise
        self.globals["strftime_now"] = lambda form: day.strftime(form)

    def render(self, template: jinja2.Template, values: Mapping[str, Any]) -> str:
        """Return the template's text.

        Raises:
            SecurityError: the template does more, or runs longer, than a chat template may.
            Exception: the template does not fit the values.
        """
        self._steps = 0
        pieces, size = [], 0
        for piece in template.generate(values):
            size += len(piece)
            if size > _MAX_OUTPUT:
                raise SecurityError("the rendered text is longer than 16 MiB")
            pieces.append(piece)
        return "".join(pieces)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Return whether a template may read an attribute: only listed methods of plain values."""
        for kind, methods in _METHODS.items():
            if isinstance(obj, kind):
                return attr in methods
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """Turn Jinja's `str.format` off: its fields could read attributes. `call` replaces it."""

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call an object; a text's `format` is replaced by `_fill`."""
        __self._step()
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str) and getattr(__obj, "__name__", None) == "format":
            return _fill(owner, args, kwargs)
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Evaluate `%`; refuse powers, which have no use, and other than plain values in texts."""
        if operator == "**":
            raise SecurityError("a chat template may not compute powers")
        if isinstance(left, str):
            _writable(right)
        return super().call_binop(context, operator, left, right)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        if len(source) > _MAX_SOURCE:
            raise SecurityError("it is longer than 1 MiB")
        tree: nodes.Template = _Meter(self).visit(super()._parse(source, name, filename))
        return tree

    def _step(self) -> None:
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise SecurityError("the template does not come to an end")

    def _counting(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a filter that counts its calls; one that writes text takes plain values only."""

        @functools.wraps(function)
        def counting(*args: Any, **kwargs: Any) -> Any:
            self._step()
            if name in _WRITES or name in _OF_TASKS_WRITES:
                _writable([arg for arg in args if not isinstance(arg, _CONTEXTS)])
            return function(*args, **kwargs)

        return counting

    def _counted(self, values: Iterable[Any]) -> Iterator[Any]:
        """Yield the values of a `for` loop, and count one step for each round."""
        for value in values:
            self._step()
            yield value

    def _format(self, text: str, *values: Any, **named: Any) -> Any:
        return self.call_binop(None, "%", str(_writable(text)), named or values)

    def _join(self, values: Iterable[Any], d: str = "", attribute: Any = None) -> str:
        items = list(values)
        if attribute is not None:
            items = list(map(make_attrgetter(self, attribute), items))
        return str(d).join(map(str, _writable(items)))


_CONTEXTS = (jinja2.Environment, jinja2.runtime.Context, nodes.EvalContext)


class _Meter(NodeTransformer):
    """Rewrites a parsed template so that its loops and joined texts go through the sandbox."""

    def __init__(self, environment: Sandbox) -> None:
        self._environment = environment

    def _through(self, name: str, node: nodes.Node) -> nodes.Filter:
        return nodes.Filter(
            node, name, [], [], None, None, lineno=node.lineno, environment=self._environment
        )

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        node.iter = self._through(_COUNTED, node.iter)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno, environment=self._environment)
        return self._through(_JOINED, parts)


def _writable(value: Any) -> Any:
    """Return the value; raise if a text of it would hold an address, as with functions."""
    if isinstance(value, _PLAIN):
        return value
    waiting, known = [value], set()
    while waiting:
        item = waiting.pop()
        if isinstance(item, _PLAIN) or id(item) in known:
            continue
        known.add(id(item))
        if isinstance(item, Mapping):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, (list, tuple)):
            waiting += item
        else:
            raise SecurityError(f"a chat template may not write a {type(item).__name__}")
    return value


def _fill(text: str, values: Sequence[Any], named: Mapping[str, Any]) -> str:
    """Return `text.format(...)` with plain fields: no widths, conversions or attributes."""
    parts = re.split(r"\{(\w*)\}", text)
    if "{" in "".join(parts[::2]) or "}" in "".join(parts[::2]):
        raise SecurityError("a chat template may only use plain fields in `format`")
    unnamed = iter(values)
    for place, field in enumerate(parts[1::2]):
        if field:
            value = values[int(field)] if field.isdigit() else named[field]
        elif (value := next(unnamed, None)) is None:
            raise IndexError("`format` has more fields than values")
        parts[2 * place + 1] = str(_writable(value))
    return "".join(parts)


def _indent(text: str, width: int = 4, first: bool = False, blank: bool = False) -> str:
    lines = text.splitlines(keepends=True)
    padded = [" " * width + line if blank or line.strip() else line for line in lines]
    return "".join(padded if first else [*lines[:1], *padded[1:]])


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return plain JSON, as chat templates expect; Jinja's own `tojson` escapes for HTML."""
    value = list(value) if isinstance(value, Iterator) else value  # for example from `map`
    return json.dumps(
        _writable(value),
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _regex_replace(text: str, pattern: str, new: str, count: int = 0) -> str:
    return re.sub(pattern, new, text, count=count)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
