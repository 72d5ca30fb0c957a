"""A Jinja environment for templates from strangers' files: they may not reach out, and they end.

Jinja's own sandbox keeps a template away from Python's internals, but lets it fill the memory or
never come back. Here every loop, call, filter and joining of texts is paid from a budget, no value
grows beyond a size, and only the methods and filters that chat templates use exist at all. These
limits are our own because Jinja has none for time and memory.
"""

from __future__ import annotations

import datetime
import functools
import json
import re
import time
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
from jinja2.utils import pass_context
from jinja2.visitor import NodeTransformer

_MAX_SIZE = 16 * 2**20  # characters of a value, an entry of a list counts 16; and of all output
_ENTRY = 16
_MAX_STEPS = 2**18  # loop rounds, calls and the like; on a long value one counts several times
_MAX_SECONDS = 30.0  # for what is not counted, such as comparing two long texts
_MAX_SOURCE = 2**20

# Templates that print today's date would give other tokens every day. This is the date that
# Llama 3's template falls back to where no clock is offered.
TODAY = datetime.date(2024, 7, 26)

# What a template that cannot be compiled raises, nesting beyond Python's own limits included.
COMPILE_ERRORS = (jinja2.TemplateError, RecursionError, SyntaxError, ValueError)

# What an expression of a template may raise when it does not fit the messages.
RENDER_ERRORS = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)

_TEXT_METHODS = [
    "capitalize", "count", "endswith", "find", "format", "index",
    "isalnum", "isalpha", "isdigit", "islower",
    "isnumeric", "isspace", "isupper", "join", "lower", "lstrip", "partition", "removeprefix",
    "removesuffix", "replace", "rfind", "rpartition", "rsplit", "rstrip", "split", "splitlines",
    "startswith", "strip", "title", "upper",
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
    "rejectattr", "reverse", "safe", "select", "selectattr", "sort", "title", "trim", "unique",
    "upper",
]  # fmt: skip
_COUNTED, _SIZED, _JOINED = "m2m_counted", "m2m_sized", "m2m_joined"

# A width or precision of three digits, or one taken from an argument, in a format such as "%999d".
_WIDE = re.compile(r"%(\([^)]*\))?[-+ #0-9.]*?(\d{3}|\*)")


class _Generation(Extension):
    """`{% generation %}`, with which some templates mark for transformers what is an answer."""

    tags = {"generation"}  # noqa: RUF012 (declared so by Jinja)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Sandbox(ImmutableSandboxedEnvironment):
    """Where chat templates are compiled and rendered, one rendering at a time."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", _Generation],
        )
        self._restart()
        self.finalize = self._written
        own: dict[str, Callable[..., Any]] = {
            "format": self._format,
            "indent": self._indent,
            "join": self._join,
            "replace": self._replace,
            "string": self._string,
            "tojson": self._to_json,
            _COUNTED: self._counted,
            _JOINED: self._joined,
            _SIZED: self._sized,
        }
        kept = {name: self._paid(self.filters[name]) for name in _FILTERS}
        self.filters = kept | own
        del self.globals["lipsum"]
        self.globals["dict"] = lambda *pairs, **more: self._sized(None, dict(*pairs, **more))
        self.globals["raise_exception"] = _raise
        self.globals["strftime_now"] = _strftime_now

    def render(self, template: jinja2.Template, /, **values: Any) -> str:
        """The template's text.

        Raises:
            SecurityError: it does more, or goes on for longer, than a chat template may.
            RENDER_ERRORS: it does not fit the values.
        """
        self._restart()
        return "".join(template.generate(**values))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Whether a template may read this attribute: of plain values, only listed methods."""
        for kind, methods in _METHODS.items():
            if isinstance(obj, kind):
                return attr in methods
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """`str.format` is ours (`call`): one short text can ask for padding of any width."""

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call something; three methods of texts are replaced by ours, which look at the size."""
        __self._spend(0)
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", None)
        if isinstance(owner, str) and name == "replace":
            return __self._replace(owner, *args)
        if isinstance(owner, str) and name == "join":
            (values,) = args
            return __self._join(values, owner)
        if isinstance(owner, str) and name == "format":
            return __self._fill(owner, args, kwargs)
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Evaluate `+`, `*`, `%` or `**`, or refuse."""
        size, refused = 0, operator == "**"
        if operator == "*":
            size = int(_extent(left) * _extent(right))
        elif operator == "+" and hasattr(left, "__len__"):
            size = len(left) + int(_extent(right))
        elif operator == "%" and isinstance(left, str):
            times = left.count("%") if isinstance(right, Mapping) else 1  # "%(a)s%(a)s"
            size = len(left) + times * self._measure(right)
            refused = _WIDE.search(left) is not None
        if refused or size > _MAX_SIZE:
            raise SecurityError(f"a chat template may not compute such a large {operator!r}")
        self._spend(size)
        return super().call_binop(context, operator, left, right)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        if len(source) > _MAX_SOURCE:
            raise SecurityError("it is longer than 1 MiB")
        tree: nodes.Template = _Meter(self).visit(super()._parse(source, name, filename))
        return tree

    def _restart(self) -> None:
        self._steps = self._output = 0
        self._deadline = time.monotonic() + _MAX_SECONDS

    def _spend(self, size: int) -> None:
        """Pay for one step that makes or reads a value of `size`."""
        if size > _MAX_SIZE:
            raise SecurityError("a chat template may not make a value larger than 16 MiB")
        self._steps += 1 + size // 1024
        if self._steps > _MAX_STEPS or time.monotonic() > self._deadline:
            raise SecurityError("the template does not come to an end")

    def _measure(self, value: Any) -> int:
        """Pay for a value written out, whose shared parts count every time; its size."""
        size = 0
        waiting = [value]
        while waiting:
            item = waiting.pop()
            if isinstance(item, str):
                size += len(item)
            elif isinstance(item, Mapping):
                waiting += [*item.keys(), *item.values()]
            elif isinstance(item, (list, tuple)):
                waiting += item
            elif not isinstance(item, (int, float, Undefined, type(None))):
                raise SecurityError(f"a chat template may not write a {type(item).__name__}")
            size += _ENTRY
            if size + _ENTRY * len(waiting) > _MAX_SIZE:
                size = _MAX_SIZE + 1
                break
        self._spend(size)
        return size

    def _paid(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A filter whose calls are counted."""

        @functools.wraps(function)
        def paying(*args: Any, **kwargs: Any) -> Any:
            # The numbers of a range are made only now.
            long = [x for x in args if isinstance(x, (str, list, tuple, dict, range))]
            self._spend(sum(len(x) * (_ENTRY if isinstance(x, range) else 1) for x in long))
            return function(*args, **kwargs)

        return paying

    @pass_context
    def _written(self, context: Any, value: Any) -> Any:
        """Everything that is written goes through here."""
        self._output += len(value) if isinstance(value, str) else self._measure(value)
        if self._output > _MAX_SIZE:
            raise SecurityError("the rendered text is longer than 16 MiB")
        self._spend(0)
        return value

    @pass_context
    def _counted(self, context: Any, values: Iterable[Any]) -> Iterator[Any]:
        """What a `for` goes through, one step a round."""
        for value in values:
            self._spend(0)
            yield value

    @pass_context
    def _sized(self, context: Any, value: Any) -> Any:
        """A list, tuple or dict that the template writes out; a step for all that hangs on it."""
        self._measure(value)
        return value

    @pass_context
    def _joined(self, context: Any, values: Sequence[Any]) -> str:
        """`a ~ b`."""
        self._measure(values)
        return "".join(map(str, values))

    def _format(self, text: str, *values: Any, **named: Any) -> Any:
        return self.call_binop(None, "%", str(text), named or values)

    def _fill(self, text: str, values: Sequence[Any], named: Mapping[str, Any]) -> str:
        """`text.format(...)` with plain fields: no widths, conversions or attributes."""
        parts = re.split(r"\{(\w*)\}", text)
        if "{" in "".join(parts[::2]) or "}" in "".join(parts[::2]):
            raise SecurityError("a chat template may only use plain fields in `format`")
        unnamed = iter(values)
        for place, field in enumerate(parts[1::2]):
            if field:
                value = values[int(field)] if field.isdigit() else named[field]
            elif (value := next(unnamed, None)) is None:
                raise IndexError("`format` has more fields than values")
            self._measure(value)
            parts[2 * place + 1] = str(value)
        self._spend(sum(map(len, parts)))
        return "".join(parts)

    def _string(self, value: Any) -> str:
        self._measure(value)
        return str(value)

    def _replace(self, value: Any, old: str, new: str, count: int | None = None) -> str:
        text, limit = str(value), -1 if count is None else count
        found = text.count(old)
        self._spend(len(text) + (found if limit < 0 else min(found, limit)) * len(new))
        return text.replace(old, new, limit)

    def _join(self, values: Iterable[Any], d: str = "", attribute: Any = None) -> str:
        items = list(values)
        if attribute is not None:
            items = list(map(make_attrgetter(self, attribute), items))
        self._spend(self._measure(items) + len(d) * len(items))
        return d.join(map(str, items))

    def _indent(self, text: str, width: int = 4, first: bool = False, blank: bool = False) -> str:
        lines = text.splitlines(keepends=True)
        self._spend(len(text) + abs(width) * len(lines))
        padded = [" " * width + line if blank or line.strip() else line for line in lines]
        return "".join(padded if first else [*lines[:1], *padded[1:]])

    def _to_json(
        self,
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        """Jinja's own `tojson` escapes for HTML; chat templates expect plain JSON."""
        value = list(value) if isinstance(value, Iterator) else value  # of `map`, say
        self._measure(value)
        self._spend(_MAX_SIZE + 1 if indent is not None and indent > 64 else 0)
        encoder = json.JSONEncoder(
            ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )
        pieces: list[str] = []
        size = 0
        for piece in encoder.iterencode(value):
            size += len(piece)
            self._spend(_MAX_SIZE + 1 if size > _MAX_SIZE else 0)
            pieces.append(piece)
        return "".join(pieces)


class _Meter(NodeTransformer):
    """Puts the sandbox's counters into a parsed template."""

    def __init__(self, environment: Sandbox) -> None:
        self._environment = environment

    def _through(self, name: str, node: nodes.Node) -> nodes.Filter:
        return nodes.Filter(
            node,
            name,
            [],
            [],
            None,
            None,
            lineno=node.lineno,
            environment=self._environment,
        )

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        node.iter = self._through(_COUNTED, node.iter)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno, environment=self._environment)
        return self._through(_JOINED, parts)

    def visit_Output(self, node: nodes.Output) -> nodes.Output:
        # Template data would be written without being counted; constants go through `finalize`.
        self.generic_visit(node)
        node.nodes = [
            nodes.Const(child.data, lineno=child.lineno, environment=self._environment)
            if isinstance(child, nodes.TemplateData)
            else child
            for child in node.nodes
        ]
        return node

    def visit_List(self, node: nodes.List | nodes.Dict) -> nodes.Expr:
        self.generic_visit(node)
        return self._through(_SIZED, node)

    visit_Dict = visit_List

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Expr:
        self.generic_visit(node)
        return self._through(_SIZED, node) if node.ctx == "load" else node


def _extent(value: Any) -> float:
    """The length of a value, or the size of a number."""
    if isinstance(value, (int, float)):
        return abs(value)
    return len(value) if hasattr(value, "__len__") else 0


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    if len(form) > 1000:
        raise SecurityError("a chat template may not ask for so long a date")
    return TODAY.strftime(form)
