"""Templates from strangers' files: the honest ones render as in transformers, the others end."""

from __future__ import annotations

import re
from typing import Any

import jinja2
import pytest

from m2m.errors import InputError, LimitError
from m2m.limits import Limits
from m2m.templates import parent
from m2m.tokenizer import ChatTemplate
from tests.templates import of_task

ONE_SECOND = Limits(cpu=1)
USER = {"role": "user", "content": "Jambo"}
ANSWER = {"role": "assistant", "content": "Hello"}


def render(source: str, *messages: dict[str, Any], **options: Any) -> str:
    return ChatTemplate(source).render(messages or [USER, ANSWER], **options)


# What real templates use, with what Jinja itself would give.
HONEST = [
    ("{{ 'a' ~ 1 ~ messages[0].content ~ none }}", "a1JamboNone"),
    ("{{ 'a' + 'b' * 3 }}{{ 2 * 3 + 4 % 3 }}", "abbb7"),
    ("{{ '%s is %d' % ('x', 3) }}", "x is 3"),
    ("{{ '%s is %03d' | format('x', 3) }}", "x is 003"),
    ("{{ '<{}|{a}|{}>'.format('x', 'y', a=1) }}", "<x|1|y>"),
    ("{{ messages | map(attribute='role') | join(', ') }}", "user, assistant"),
    ("{{ ', '.join(['a', 'b']) }}{{ ['a', 'b'] | join }}", "a, bab"),
    ("{{ 'aXbX'.replace('X', '-') }}{{ 'aXbX' | replace('X', '', 1) }}", "a-b-abX"),
    ("{{ 'a b'.split(' ')[1] }}{{ ' x '.strip() }}{{ 'ab'.startswith('a') }}", "bxTrue"),
    ("{{ messages[0]['content'] | trim | length }}", "5"),
    ("{% for m in messages %}{{ loop.index }}/{{ loop.length }}{{ loop.last }} {% endfor %}", None),
    ("{% for m in messages[1:] %}{{ m.role }}{% else %}none{% endfor %}", "assistant"),
    ("{% for m in nothing %}x{% else %}none{% endfor %}", "none"),
    ("{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}", None),
    ("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", "Jambo"),
    ("{% set n = namespace(x=1) %}{% for m in messages %}{% set n.x = n.x + 1 %}{% endfor %}"
     "{{ n.x }}", "3"),
    ("{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f('a') + f('b') }}", "<a><b>"),
    ("{% set t %}a{{ 1 }}{% endset %}{{ t }}{{ t | upper }}", "a1A1"),
    ("{{ {'a': [1, 2]} | tojson }}{{ {'b': 1, 'a': 'é'} | tojson(sort_keys=true) }}",
     '{"a": [1, 2]}{"a": "é", "b": 1}'),
    ("{{ {'a': [1]} | tojson(indent=2) }}", '{\n  "a": [\n    1\n  ]\n}'),
    ("{{ {'a': 1} }}{{ ['x', none, true] }}", "{'a': 1}['x', None, True]"),
    ("{{ 'a\nb' | indent(2) }}", "a\n  b"),
    ("{% for m in messages[::-1] %}{{ m.role[0] }}{% endfor %}{{ 'a' is string }}", "auTrue"),
    ("{{ '<t>x</t>\ny'.split('</t>')[0].rstrip('\n').split('<t>')[-1].lstrip('\n') }}", "x"),
    ("{{ 'x' if 'tool' in ['tool', 'user'] else 'y' }}{{ (1, 2)[1] }}", "x2"),
    ("{{ range(3) | list }}{{ undefined_thing }}{{ messages[0].nothing }}", "[0, 1, 2]"),
    ("{{ messages | selectattr('role', 'equalto', 'user') | list | length }}", "1"),
    ("{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.role }}{% endfor %}",
     "assistant"),
    ("{% for i in [1, [2, [3]]] recursive %}{{ loop(i) if i is iterable else i }}{% endfor %}",
     "123"),
    ("{{ '<a>' | e }}{{ 3 | string }}{{ '7' | int + 1 }}{{ messages[0] | items | list }}", None),
    ("{{ dict(a=1).a }}{{ messages[0].get('x', 'y') }}{{ 'aB'.lower() }}", "1yab"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "expected"), HONEST)
def test_honest_templates_render_as_in_jinjas_sandbox(source: str, expected: str | None) -> None:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    rendered = render(source)
    if expected is not None:
        assert rendered == expected
    if "tojson" not in source:  # transformers has its own as well
        peer = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        assert rendered == peer.from_string(source).render(messages=[USER, ANSWER])


ROW = {"t": "Una <b>jina</b> & 'nyumba'\nya pili", "l": ["b", "a", "c"], "d": {"b": 1, "a": "<é>"}}


@pytest.mark.parametrize(
    "source",
    [
        "{{ t | tojson }}{{ d | tojson }}{{ d | tojson(indent=2) }}",
        "{{ t | regex_replace('[aeiou]', '_', 3) }}{{ t | regex_replace('n(y.)', 'N') }}",
        "{{ 2.567 | round(1) }}{{ 7 | round }}{{ [1, 2] | sum }}{{ l | batch(2) | list }}",
        "{{ l | slice(2) | list }}{{ 'ab' | center(9) }}|{{ t | wordcount }}{{ d | pprint }}",
        "{{ t | truncate(9) }}{{ t | striptags }}{{ t | wordwrap(8) }}{{ t | urlencode }}",
        "{{ t | indent(2, true) }}{{ '' | indent(2, true) }}{{ t | forceescape }}",
        "{{ l | join(2) }}{{ d | xmlattr }}{{ 'www.x.org' | urlize }}{{ 3000 | filesizeformat }}",
        "{{ t.swapcase() }}{{ t.casefold() }}{{ '٣'.isdecimal() }}{{ t.rindex('a') }}\n",
    ],
)
def test_a_task_has_the_filters_of_lm_eval(source: str) -> None:
    """Its environment is Jinja's own with one more filter (lm_eval/utils.py)."""
    peer = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    peer.filters["regex_replace"] = lambda text, old, new, n=0: re.sub(old, new, text, count=n)
    assert of_task(source).render(ROW) == peer.from_string(source).render(ROW)


def test_answers_marked_for_transformers_are_written() -> None:
    assert render("a{% generation %}{{ messages[1].content }}{% endgeneration %}b") == "aHellob"


NESTED = "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3
DOUBLING = (
    "{% set n = namespace(x=START) %}{% for i in range(90) %}{% set n.x = STEP %}{% endfor %}"
)


def doubling(start: str, step: str, end: str = "") -> str:
    return DOUBLING.replace("START", start).replace("STEP", step) + end


ENDLESS = {
    "padding by format": "{{ '{:999999999}'.format(1) }}",
    "padding by format_map": "{{ '{a:999999999}'.format_map({'a': 1}) }}",
    "padding by an item": "{{ 'x'['center'](999999999) }}",
    "padding by a method": "{{ 'x'.center(999999999) }}{{ 'x'.zfill(999999999) }}",
    "padding by %": "{{ '%999999999d' % 1 }}",
    "padding by % and a name": "{{ '%(a)999999999d' % {'a': 1} }}",
    "padding by % and a star": "{{ '%*d' % (999999999, 1) }}",
    "padding many times": "{{ ('%999d' * 999999) % ((1,) * 999999) }}",
    "a name many times": "{{ ('%(a)s' * 99999) % {'a': 'a' * 99999} }}",
    "precision by %": "{{ '%.999999999f' % 1 }}",
    "padding by a filter": "{{ 'x' | center(999999999) }}",
    "padding by the format filter": "{{ '%999999999d' | format(1) }}",
    "padding by indent": "{{ 'a\nb' | indent(999999999) }}",
    "padding by tojson": "{{ [1] | tojson(indent=999999999) }}",
    "padding by batch": "{{ [1] | batch(999999999, 'x') | list }}",
    "padding by expandtabs": "{{ '\t'.expandtabs(999999999) }}",
    "bytes of a number": "{{ (1).to_bytes(999999999, 'big') }}",
    "a huge number": "{{ 9 ** 9 ** 9 }}",
    "a list times a number": "{{ [1] * 999999999 }}",
    "lipsum": "{{ lipsum(n=999999999) }}",
    "one long range": "{% for i in range(999999999) %}{% endfor %}",
    "nested ranges": NESTED,
    "nested ranges with a loop": NESTED.replace("%}{%", "%}{{ loop.last }}{%", 3),
    "a range of ranges": (
        "{% for a in range(99999) %}{{ range(99999) | list | length }}{% endfor %}"
    ),
    "filters without loops": "{{ " + "range(99999) | map('string') | list | " * 400 + "length }}",
    "macros that call themselves twice": (
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}"
    ),
    "a macro that calls itself": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "text doubled by ~": doubling("'aa'", "n.x ~ n.x", "{{ n.x | length }}"),
    "text doubled by +": doubling("'aa'", "n.x + n.x"),
    "text doubled by *": doubling("'aa'", "n.x * 9"),
    "text squared by replace": doubling("'aa'", "n.x.replace('a', n.x)"),
    "text squared by a filter": doubling("'aa'", "n.x | replace('a', n.x)"),
    "text squared by join": doubling("'aa'", "n.x.join([n.x, n.x])"),
    "text squared by the join filter": doubling("'aa'", "[n.x, n.x] | join(n.x)"),
    "a list doubled by +": doubling("[1]", "n.x + n.x"),
    "a list of lists": doubling("[1]", "[n.x, n.x]", "{{ n.x }}"),
    "a tuple of tuples": doubling("(1,)", "(n.x, n.x)", "{{ n.x | tojson }}"),
    "an object of objects": doubling("{'a': 1}", "{'a': n.x, 'b': n.x}", "{{ n.x | string }}"),
    "objects by dict": doubling("1", "dict(a=n.x, b=n.x)", "{{ n.x ~ '' }}"),
    "a namespace of namespaces": doubling("1", "namespace(a=n.x, b=n.x)", "{{ n.x }}"),
    "output that never ends": "{% for i in range(90000) %}" + "a" * 9000 + "{% endfor %}",
    "a block that never ends": (
        "{% set t %}{% for i in range(90000) %}" + "a" * 9000 + "{% endfor %}{% endset %}"
    ),
}

# They take their second of processor time, and some of it twice.
PATIENT = {
    *("padding many times", "a range of ranges", "macros that call themselves twice"),
    *("a list of lists", "a tuple of tuples", "an object of objects", "objects by dict"),
    *("padding by format", "text doubled by ~", "text doubled by +", "a list doubled by +"),
    *("a name many times", "text squared by the join filter", "text doubled by *"),
    *("text squared by join", "text squared by replace", "text squared by a filter"),
    *("padding by indent", "padding by the format filter", "padding by tojson"),
    "padding by format_map",
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in PATIENT)) for name in ENDLESS],
)
def test_every_template_ends_and_stays_small(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent, "LIMITS", ONE_SECOND)
    with pytest.raises((InputError, LimitError)):
        render(ENDLESS[name])


@pytest.mark.parametrize(
    "expression",
    [
        "''.__class__",
        "''['__class__']",
        "'' | attr('__class__')",
        "messages | map(attribute='__class__') | first",
        "[''] | map('attr', '__class__') | list",
        "messages | groupby('__class__') | map('first') | first",
        "messages | sort(attribute='__class__') | map(attribute='__class__') | first",
        "[''] | join('', attribute='__class__')",
        "raise_exception.__globals__",
        "strftime_now.__self__",
        "strftime_now.__code__",
        "range.__base__",
        "namespace.__init__.__globals__",
        "self.__init__",
        "cycler.__init__.__globals__.os",
        "(1).real.__class__",
        "''.join.__self__",
        "messages.append(1)",
        "messages[0].update({'a': 1})",
        "messages[0].pop('role')",
        "''.encode()",
        "messages.copy.__class__",
        "range(3).__class__",
        "'{0.__class__}'.format(1)",
        "'{0.__class__}' | format(1)",
        "messages.__reduce__()",
        "('%s' % messages.__class__)",
        "joiner('').__call__.__globals__",
    ],
)
def test_attributes_lead_nowhere(expression: str) -> None:
    try:
        rendered = render("{{ (" + expression + ") }}")
    except InputError:
        return
    assert rendered in ("", "[]", "[Undefined]", "Undefined"), rendered


def test_a_row_that_does_not_fit_is_told_in_pythons_words() -> None:
    with pytest.raises(InputError, match="can only concatenate str"):
        render("{{ 'a' + messages[0].content }}", {"role": "user", "content": None})


def test_messages_are_not_changed_by_a_template() -> None:
    message = {"role": "user", "content": ["a"]}
    with pytest.raises(InputError):
        render("{{ messages[0].content.append('b') }}", message)
    assert message == {"role": "user", "content": ["a"]}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("a\n{% for %}", "line 2"),
        ("{% if x %}", "not valid Jinja"),
        ("{{ x | nothing }}", "No filter named 'nothing'"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "not valid Jinja"),
        ("{% for a in x %}" * 60 + "{% endfor %}" * 60, "not valid Jinja"),
        ("{{ " + "9" * 9000 + " }}", "not valid Jinja"),
        ("a" * (2**20 + 1), "longer than 1 MiB"),
    ],
)
def test_templates_that_cannot_be_compiled_are_refused(source: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        ChatTemplate(source)


def test_a_long_conversation_is_no_trouble() -> None:
    source = (
        "{% for m in messages %}{% if loop.index0 == messages | length - 1 %}{{ '!' }}{% endif %}"
        "{{ '<|im_start|>' + m.role + '\n' + m.content | trim + '<|im_end|>' + '\n' }}{% endfor %}"
    )
    messages = [{"role": "user", "content": "x" * 500}] * 5000
    assert len(render(source, *messages)) > 2_500_000


def test_a_refused_rendering_leaves_the_next_one_its_whole_budget() -> None:
    template = ChatTemplate(
        "{% for i in range(messages[0].n) %}{% for j in range(9999) %}x{% endfor %}{% endfor %}"
    )
    for _ in range(3):
        with pytest.raises(InputError, match="come to an end"):
            template.render([{"n": 9999}])
        assert len(template.render([{"n": 9}])) == 9 * 9999
