"""Statements of a task file's functions, as functions of a frame: see `plain_python`."""

from __future__ import annotations

import ast
from typing import Any

from m2m.templates.plain_expressions import BREAK, CONTINUE, Compiled, Expressions, Frame, Returned
from m2m.templates.plain_files import File
from m2m.templates.plain_values import EXCEPTIONS, NotUnderstood


class Compiler(Expressions):
    """Turns functions and the statements of modules into functions of a frame."""

    def _Assign(self, node: ast.Assign) -> Compiled:
        value, targets = self.value(node.value), [self._target(t) for t in node.targets]

        def assign(frame: Frame) -> None:
            result = value(frame)
            for target in targets:
                target(frame, result)

        return assign

    def _AnnAssign(self, node: ast.AnnAssign) -> Compiled:
        if node.value is None:
            return lambda frame: None
        return self._Assign(ast.Assign([node.target], node.value))

    def _AugAssign(self, node: ast.AugAssign) -> Compiled:
        read = ast.copy_location(_loaded(node.target), node)
        both = ast.copy_location(ast.BinOp(read, node.op, node.value), node)
        return self._Assign(ast.Assign([node.target], both))

    def _Expr(self, node: ast.Expr) -> Compiled:
        value = self.value(node.value)

        def do(frame: Frame) -> None:
            value(frame)

        return do

    def _Return(self, node: ast.Return) -> Compiled:
        value = self.value(node.value) if node.value else lambda frame: None
        return lambda frame: Returned(value(frame))

    def _If(self, node: ast.If) -> Compiled:
        test, yes, no = self.value(node.test), self.block(node.body), self.block(node.orelse)
        return lambda frame: yes(frame) if test(frame) else no(frame)

    def _For(self, node: ast.For) -> Compiled:
        target, values = self._target(node.target), self.value(node.iter)
        body, after, modules = self.block(node.body), self.block(node.orelse), self._modules

        def loop(frame: Frame) -> Any:
            for value in values(frame):
                modules.count()
                target(frame, value)
                signal = body(frame)
                if signal is BREAK:
                    return None
                if isinstance(signal, Returned):
                    return signal
            return after(frame)

        return loop

    def _With(self, node: ast.With) -> Compiled:
        parts = [
            (self.value(part.context_expr), part.optional_vars and self._target(part.optional_vars))
            for part in node.items
        ]
        body = self.block(node.body)

        def inside(frame: Frame) -> Any:
            for value, target in parts:
                file = value(frame)
                if not isinstance(file, File):
                    raise NotUnderstood(f"`with` and a {type(file).__name__}")
                if target:
                    target(frame, file)
            return body(frame)

        return inside

    def _Try(self, node: ast.Try) -> Compiled:
        if node.finalbody or node.orelse:
            raise self._no(node)
        body = self.block(node.body)
        handlers = [
            (self._kinds(handler.type), handler.name, self.block(handler.body))
            for handler in node.handlers
        ]

        def attempt(frame: Frame) -> Any:
            try:
                return body(frame)
            except NotUnderstood:
                raise
            except Exception as error:
                for kinds, name, handle in handlers:
                    if isinstance(error, kinds):
                        if name:
                            frame.names[name] = str(error)
                        return handle(frame)
                raise

        return attempt

    def _kinds(self, node: ast.expr | None) -> tuple[type[Exception], ...]:
        if node is None:
            return (Exception,)
        names = [
            part.id if isinstance(part, ast.Name) else ""
            for part in (node.elts if isinstance(node, ast.Tuple) else [node])
        ]
        if not all(name in EXCEPTIONS for name in names):
            raise self._no(node)
        return tuple(EXCEPTIONS[name] for name in names)

    def _Raise(self, node: ast.Raise) -> Compiled:
        text = ast.unparse(node)

        def fail(frame: Frame) -> None:
            raise ValueError(f"`{text:.80}`")

        return fail

    def _Assert(self, node: ast.Assert) -> Compiled:
        test, text = self.value(node.test), ast.unparse(node)

        def check(frame: Frame) -> None:
            if not test(frame):
                raise AssertionError(f"`{text:.80}`")

        return check

    def _Pass(self, node: ast.Pass) -> Compiled:
        return lambda frame: None

    def _Break(self, node: ast.Break) -> Compiled:
        return lambda frame: BREAK

    def _Continue(self, node: ast.Continue) -> Compiled:
        return lambda frame: CONTINUE

    def _FunctionDef(self, node: ast.FunctionDef) -> Compiled:
        if node.decorator_list:
            raise self._no(node)
        made, name = self._function(node.args, self.block(node.body)), node.name

        def define(frame: Frame) -> None:
            frame.names[name] = made(frame)

        return define


def _loaded(node: ast.expr) -> ast.expr:
    """Return the expression that reads a target of `+=`."""
    if isinstance(node, ast.Name):
        return ast.Name(node.id, ast.Load())
    if isinstance(node, ast.Subscript):
        return ast.Subscript(node.value, node.slice, ast.Load())
    raise NotUnderstood("`+=` on an attribute")
