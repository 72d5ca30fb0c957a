"""Build HTML and SVG that no text can break out of: all text is escaped unless built here."""

from __future__ import annotations

from collections.abc import Iterable

from m2m.escaping import html_text

# Elements that are written without content; all others get an end tag.
_EMPTY = {"br", "meta", "line", "rect", "circle", "path", "polyline", "polygon"}


class Markup(str):
    """Text that is already markup, made by `element` from escaped parts."""

    __slots__ = ()


Child = str | Markup | None | Iterable["Child"]


def escape(text: str) -> Markup:
    """Escape text for an element or a quoted attribute; see `html_text`."""
    return Markup(html_text(text))


def element(name: str, /, *children: Child, **attributes: str | float | None) -> Markup:
    """Return `<name attributes>children</name>`.

    Args:
        name: name of the element.
        children: text, which is escaped, or markup, or several of them; None is left out.
        attributes: a trailing underscore is dropped (`class_`), others become hyphens
            (`stroke_width`); None leaves the attribute out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_attribute(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    content = join(children)
    if name in _EMPTY and not content:
        return Markup(f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{content}</{name}>")


def join(children: Child) -> Markup:
    """Join the children one after the other."""
    if children is None:
        return Markup("")
    if isinstance(children, Markup):
        return children
    if isinstance(children, str):
        return escape(children)
    return Markup("".join(join(child) for child in children))


def _attribute(value: str | float) -> str:
    return escape(value) if isinstance(value, str) else f"{round(value, 2):g}"
