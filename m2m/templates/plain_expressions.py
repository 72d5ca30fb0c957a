"""Expressions of a task file's functions, as functions of a frame: see `plain_python`."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from m2m.templates.plain_values import NotUnderstood, called, member

Value = Callable[["Frame"], Any]  # a compiled expression
Compiled = Callable[["Frame"], Any]  # a compiled statement: None, BREAK, CONTINUE or a Returned
BREAK, CONTINUE = object(), object()
_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
}
_COMPARE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
}
_UNARY: dict[type, Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


class Counter(Protocol):
    """Counts steps, and stops functions that do not come to an end."""

    def count(self) -> None:
        """Count a step."""


class Returned:
    """The result of a function."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Unknown:
    """A name that a statement outside the language sets; using it is refused."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


class Frame:
    """Names and their values, with the frame around it."""

    __slots__ = ("names", "outer")

    def __init__(self, names: dict[str, Any], outer: Frame | None) -> None:
        self.names, self.outer = names, outer

    def get(self, name: str) -> Any:
        """Return the value of a name.

        Raises:
            NotUnderstood: nothing in the language sets it.
        """
        frame: Frame | None = self
        while frame is not None:
            if name in frame.names:
                value = frame.names[name]
                if isinstance(value, Unknown):
                    raise NotUnderstood(value.reason)
                return value
            frame = frame.outer
        raise NotUnderstood(f"the name {name!r:.60} is not known")


class Expressions:
    """Turns syntax trees into functions of a frame.

    Args:
        module: its name, for messages.
        modules: counts steps.
    """

    def __init__(self, module: str, modules: Counter) -> None:
        self._module, self._modules = module, modules

    def value(self, node: ast.expr | None) -> Value:
        """Return a compiled expression.

        Raises:
            NotUnderstood: it is outside the language.
        """
        make = getattr(self, f"_{type(node).__name__}", None)
        if node is None or make is None:
            raise self._no(node)
        compiled: Value = make(node)
        return compiled

    def statement(self, node: ast.stmt) -> Compiled:
        """Return a compiled statement.

        Raises:
            NotUnderstood: it is outside the language.
        """
        make = getattr(self, f"_{type(node).__name__}", None)
        if make is None:
            raise self._no(node)
        compiled: Compiled = make(node)
        return compiled

    def _no(self, node: ast.AST | None) -> NotUnderstood:
        text = ast.unparse(node).split("\n")[0] if node is not None else "nothing"
        return NotUnderstood(f"line {getattr(node, 'lineno', 0)}: `{text:.60}`")

    def block(self, nodes: Iterable[ast.stmt]) -> Compiled:
        """Return compiled statements, one after the other."""
        steps = [self.statement(node) for node in nodes]

        def run(frame: Frame) -> Any:
            for step in steps:
                if (signal := step(frame)) is not None:
                    return signal
            return None

        return run

    def _Constant(self, node: ast.Constant) -> Value:
        value = node.value
        if not isinstance(value, str | int | float | None):
            raise self._no(node)
        return lambda frame: value

    def _Name(self, node: ast.Name) -> Value:
        name = node.id
        return lambda frame: frame.get(name)

    def _List(self, node: ast.List) -> Value:
        items = self._items(node.elts)
        return lambda frame: items(frame)

    def _Tuple(self, node: ast.Tuple) -> Value:
        items = self._items(node.elts)
        return lambda frame: tuple(items(frame))

    def _Set(self, node: ast.Set) -> Value:
        items = self._items(node.elts)
        return lambda frame: set(items(frame))

    def _items(self, nodes: list[ast.expr]) -> Callable[[Frame], list[Any]]:
        parts = [
            (True, self.value(node.value))
            if isinstance(node, ast.Starred)
            else (False, self.value(node))
            for node in nodes
        ]

        def items(frame: Frame) -> list[Any]:
            made: list[Any] = []
            for starred, part in parts:
                if starred:
                    made.extend(part(frame))
                else:
                    made.append(part(frame))
            return made

        return items

    def _Dict(self, node: ast.Dict) -> Value:
        pairs = [
            (None if key is None else self.value(key), self.value(value))
            for key, value in zip(node.keys, node.values, strict=True)
        ]

        def make(frame: Frame) -> dict[Any, Any]:
            made: dict[Any, Any] = {}
            for key, value in pairs:
                if key is None:
                    made.update(value(frame))
                else:
                    made[key(frame)] = value(frame)
            return made

        return make

    def _BinOp(self, node: ast.BinOp) -> Value:
        left, right = self.value(node.left), self.value(node.right)
        if isinstance(node.op, ast.Mod):
            return lambda frame: called("%", [left(frame), right(frame)], {})
        do = _BINARY.get(type(node.op))
        if do is None:
            raise self._no(node)
        return lambda frame: do(left(frame), right(frame))

    def _UnaryOp(self, node: ast.UnaryOp) -> Value:
        value, do = self.value(node.operand), _UNARY.get(type(node.op))
        if do is None:
            raise self._no(node)
        return lambda frame: do(value(frame))

    def _BoolOp(self, node: ast.BoolOp) -> Value:
        values, ends_with = [self.value(v) for v in node.values], isinstance(node.op, ast.Or)

        def decide(frame: Frame) -> Any:
            result = None
            for value in values:
                result = value(frame)
                if bool(result) == ends_with:
                    return result
            return result

        return decide

    def _Compare(self, node: ast.Compare) -> Value:
        first, rest = self.value(node.left), [self.value(v) for v in node.comparators]
        tests = [_COMPARE[type(op)] for op in node.ops]

        def compare(frame: Frame) -> Any:
            left, result = first(frame), True
            for test, value in zip(tests, rest, strict=True):
                right = value(frame)
                result = test(left, right)
                if not result:
                    return result
                left = right
            return result

        return compare

    def _IfExp(self, node: ast.IfExp) -> Value:
        test, yes, no = self.value(node.test), self.value(node.body), self.value(node.orelse)
        return lambda frame: yes(frame) if test(frame) else no(frame)

    def _JoinedStr(self, node: ast.JoinedStr) -> Value:
        parts = [self.value(part) for part in node.values]
        return lambda frame: "".join([part(frame) for part in parts])

    def _FormattedValue(self, node: ast.FormattedValue) -> Value:
        value = self.value(node.value)
        form = self.value(node.format_spec) if node.format_spec else None
        how = {-1: "", 115: "s", 114: "r"}.get(node.conversion)
        if how is None:
            raise self._no(node)

        def write(frame: Frame) -> Any:
            return called("format", [value(frame), how, form(frame) if form else ""], {})

        return write

    def _Subscript(self, node: ast.Subscript) -> Value:
        value, place = self.value(node.value), self._place(node.slice)
        return lambda frame: called("[]", [value(frame), place(frame)], {})

    def _place(self, node: ast.expr) -> Value:
        if not isinstance(node, ast.Slice):
            return self.value(node)
        ends = [
            None if part is None else self.value(part)
            for part in (node.lower, node.upper, node.step)
        ]
        return lambda frame: slice(*(None if end is None else end(frame) for end in ends))

    def _Attribute(self, node: ast.Attribute) -> Value:
        value, name = self.value(node.value), node.attr
        return lambda frame: member(value(frame), name)

    def _Call(self, node: ast.Call) -> Value:
        function, items = self.value(node.func), self._items(node.args)
        named = [(word.arg, self.value(word.value)) for word in node.keywords]
        modules = self._modules

        def call(frame: Frame) -> Any:
            modules.count()
            words: dict[str, Any] = {}
            for name, value in named:
                words |= value(frame) if name is None else {name: value(frame)}
            return called(function(frame), items(frame), words)

        return call

    def _Lambda(self, node: ast.Lambda) -> Value:
        body = self.value(node.body)
        return self._function(node.args, lambda frame: Returned(body(frame)))

    def _ListComp(self, node: ast.ListComp | ast.GeneratorExp) -> Value:
        value = self.value(node.elt)
        return self._over(node.generators, lambda made, frame: made.append(value(frame)), list)

    def _GeneratorExp(self, node: ast.GeneratorExp) -> Value:
        values = self._ListComp(node)
        return lambda frame: iter(values(frame))

    def _SetComp(self, node: ast.SetComp) -> Value:
        value = self.value(node.elt)
        return self._over(node.generators, lambda made, frame: made.add(value(frame)), set)

    def _DictComp(self, node: ast.DictComp) -> Value:
        key, value = self.value(node.key), self.value(node.value)

        def put(made: dict[Any, Any], frame: Frame) -> None:
            made[key(frame)] = value(frame)

        return self._over(node.generators, put, dict)

    def _over(
        self, loops: list[ast.comprehension], put: Callable[[Any, Frame], Any], make: type
    ) -> Value:
        parts = [
            (self._target(loop.target), self.value(loop.iter), [self.value(t) for t in loop.ifs])
            for loop in loops
        ]
        modules = self._modules

        def go(level: int, frame: Frame, made: Any) -> None:
            if level == len(parts):
                put(made, frame)
                return
            target, values, tests = parts[level]
            for value in values(frame):
                modules.count()
                target(frame, value)
                if all(test(frame) for test in tests):
                    go(level + 1, frame, made)

        def collect(frame: Frame) -> Any:
            made = make()
            go(0, Frame({}, frame), made)
            return made

        return collect

    def _target(self, node: ast.expr) -> Callable[[Frame, Any], None]:
        """Return a function that gives a name, an item or several names a value."""
        if isinstance(node, ast.Name):
            name = node.id

            def put(frame: Frame, value: Any) -> None:
                frame.names[name] = value

            return put
        if isinstance(node, ast.Tuple | ast.List):
            targets = [self._target(part) for part in node.elts]

            def spread(frame: Frame, value: Any) -> None:
                for target, item in zip(targets, list(value), strict=True):
                    target(frame, item)

            return spread
        if not isinstance(node, ast.Subscript):
            raise self._no(node)
        owner, place = self.value(node.value), self._place(node.slice)
        return lambda frame, value: called("[]=", [owner(frame), place(frame), value], {})

    def _function(self, args: ast.arguments, body: Compiled) -> Value:
        """Return an expression that makes a function over the frame around it."""
        names = [argument.arg for argument in (*args.posonlyargs, *args.args)]
        only = [argument.arg for argument in args.kwonlyargs]
        given = [self.value(value) for value in args.defaults]
        late = [None if value is None else self.value(value) for value in args.kw_defaults]
        rest, words = args.vararg and args.vararg.arg, args.kwarg and args.kwarg.arg

        def make(frame: Frame) -> Any:
            preset = dict(
                zip(names[len(names) - len(given) :], (v(frame) for v in given), strict=True)
            )
            preset |= {n: v(frame) for n, v in zip(only, late, strict=True) if v}

            def function(*values: Any, **named: Any) -> Any:
                local = preset | dict(zip(names, values, strict=False))
                if rest:
                    local[rest] = values[len(names) :]
                elif len(values) > len(names):
                    raise TypeError("too many arguments")
                local |= {n: v for n, v in named.items() if n in names or n in only}
                others = {n: v for n, v in named.items() if n not in local}
                if words:
                    local[words] = others
                elif others:
                    raise TypeError(f"unexpected arguments {', '.join(others)}")
                if missing := [n for n in (*names, *only) if n not in local]:
                    raise TypeError(f"missing arguments {', '.join(missing)}")
                signal = body(Frame(local, frame))
                return signal.value if isinstance(signal, Returned) else None

            function.preset = preset  # type: ignore[attr-defined]
            return function

        return make
