"""Small templates that ask for much memory or time; only limits of the system stop these."""

from __future__ import annotations

_HALF = "{% set a = 'a' * 8000000 %}{% set b = 'a' * 2000000 + 'b' + 'a' * 2000000 %}"
_LONG = (
    "{% set h = 'f' * 1500000 %}{% set x = h | int(0, 16) %}{% set y = h[1:800000] | int(0, 16) %}"
)


def _kept(value: str, times: int = 90) -> str:
    """Keep a value of every round."""
    loop = "{% for i in range(TIMES) %}{% set n.x = (n.x, VALUE) %}{% endfor %}"
    loop = loop.replace("TIMES", str(times)).replace("VALUE", value)
    return "{% set n = namespace(x=1) %}{% set a = 'ab\n' * 5000000 %}" + loop


def _rounds(test: str) -> str:
    """Compute something 90,000 times."""
    return "{% for i in range(90000) %}{% if " + test + " %}{% endif %}{% endfor %}"


def _doubling(start: str, step: str, end: str = "") -> str:
    loop = "{% for i in range(90) %}{% set n.x = " + step + " %}{% endfor %}"
    return "{% set n = namespace(x=" + start + ") %}" + loop + end


MEMORY = {
    "% with a width": "{{ '%999999999d' % 1 }}",
    "% with a width after nested parentheses": "{{ '%((a)b)999999999s' % {'(a)b': 1} }}",
    "% with a width from a star": "{{ '%*d' % (999999999, 1) }}",
    "list times a number": "{{ [1] * 999999999 }}",
    "lists, kept": _kept("[1] * 4000000"),
    "slices, kept": _kept("a[1:]"),
    "parts of split, kept": _kept("a.split('a')"),
    "parts of rsplit, kept": _kept("a.rsplit('a')"),
    "parts of splitlines, kept": _kept("a.splitlines()"),
    "letters, kept": _kept("(a | list)"),
    "ranges, kept": _kept("range(99999) | list", 9999),
    "numbers, kept": _kept("(a[:1] * 15000000) | int(0, 16)", 9999),
    "JSON with an indent": "{{ [1] | tojson(indent=999999999) }}",
    "indent": "{{ 'a\nb' | indent(999999999) }}",
    "a text squared": _doubling("'aa'", "n.x.replace('a', n.x)"),
    "a text doubled by ~": _doubling("'aa'", "n.x ~ n.x"),
    "a long date": "{{ strftime_now('%A' * 99999999) }}",
    "20,000 elif": "{% if a %}" + "{% elif a %}" * 20000 + "{% endif %}",
    "computed while compiling": "{{ 'a'" + " * 99" * 9 + " }}",
}
TIME = {
    "division of long integers": _LONG + _rounds("x // y"),
    "modulo of long integers": _LONG + _rounds("x % y"),
    "divisible by a long integer": _LONG + _rounds("x is divisibleby(y)"),
    "product of long integers": _LONG + _rounds("x * x"),
    "rfind, quadratic": _HALF + _rounds("a.rfind(b)"),
    "rsplit, quadratic": _HALF + _rounds("a.rsplit(b)"),
    "rpartition, quadratic": _HALF + _rounds("a.rpartition(b)"),
    "strip, quadratic": "{{ ('a' * 8000000).strip('b' * 4000000 + 'a') }}",
    "trim, quadratic": "{{ ('é' * 8000000) | trim('ü' * 4000000 + 'é') }}",
    "find in a loop": _HALF + _rounds("a.find(b)"),
    "in, in a loop": _HALF + _rounds("b in a"),
    "count in a loop": _HALF + _rounds("a.count('b')"),
    "title in a loop": _HALF + _rounds("a.title()"),
    "sort of long values": (
        _HALF + "{% set x = [a + 'c', a + 'b', a + 'e', a + 'd'] * 20000 %}"
        "{{ x | sort(case_sensitive=true) | length }}"
    ),
    "unique of long values": "{% set a = 'A' * 4000000 %}{{ ([a] * 50000) | unique | list }}",
    "a recursive macro with lower": (
        "{% macro f(n, a) %}{% if n %}{{ f(n - 1, a) }}{{ f(n - 1, a) }}{% else %}"
        "{% set x = a.lower() %}{% endif %}{% endmacro %}{{ f(15, 'A' * 8000000) }}"
    ),
    "comparison of nested lists": (
        "{% set n = namespace(x=[1], y=[1]) %}{% for i in range(90) %}"
        "{% set n.x = [n.x, n.x] %}{% set n.y = [n.y, n.y] %}{% endfor %}{{ n.x == n.y }}"
    ),
}
# Which of the limits these meet first depends on the machine.
EITHER = {
    "text of nested lists": _doubling("[1]", "[n.x, n.x]", "{{ n.x }}"),
    "JSON of nested objects": _doubling("1", "{'a': n.x, 'b': n.x}", "{{ n.x | tojson }}"),
    "1 MB of names": "{{a}}" * 209000,
    "1 MB of attributes": "{{a.b}}" * 149000,
}
