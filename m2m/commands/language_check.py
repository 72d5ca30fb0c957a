"""Find rows and files in another language than the rest, or than the recipe declares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from m2m.dataset.checked import SIDES, DatasetFile, in_rows
from m2m.dataset.declared import left_in, other_scripts
from m2m.dataset.language import OTHER_LANGUAGE, Languages, tag

_MANY_FOREIGN = 0.02  # of a file's rows; fewer in another language are normal


def check_languages(files: Sequence[DatasetFile], declared: Mapping[str, Sequence[str]]) -> None:
    """Add rows, sides and files in another language than the rest, or than the recipe declares.

    Args:
        files: readable datasets.
        declared: the codes of their languages, by name; empty ones are not known.
    """
    languages = Languages({(file.name, s): t for file in files for s, t in file.sides.items()})
    for file in files:
        for side in SIDES:
            suspects = languages.suspects((file.name, side))
            for suspect in suspects:
                like = " of ".join(suspect.like[::-1])
                file.result.foreign[like] = file.result.foreign.get(like, 0) + 1
            if len(suspects) > max(2, _MANY_FOREIGN * file.result.rows):
                likes = dict.fromkeys(" of ".join(suspect.like[::-1]) for suspect in suspects)
                message = (
                    f"{in_rows(len(suspects))} whose {side} read like {', '.join([*likes][:3])}"
                )
                hint = "another language, or names? look at them"
                file.say("language", message, hint, [suspect.row for suspect in suspects])
    labels = {f.name: "-".join(sorted(declared.get(f.name, ()))) or tag(f.name) for f in files}
    for file in files:
        for side, like in _mislabelled(file.name, labels, languages):
            label = labels[file.name]
            message = f"the {side} read like those of {like}, not like the other {label} files"
            hint = "is the file what its name says, and its `languages`?"
            file.say("language", message, hint)
        _check_declared(file, declared.get(file.name, ()))


def _check_declared(file: DatasetFile, languages: Sequence[str]) -> None:
    """Add letters and words that do not fit the languages that the recipe declares."""
    listed = ", ".join(languages)
    places, absent = other_scripts(file.plain, languages)
    hint = "correct `languages` in the recipe, or look at these rows"
    if places and len(places) > max(2, _MANY_FOREIGN * file.result.rows):
        message = f"{in_rows(len(places))} in letters of none of its languages ({listed})"
        file.say("script", message, hint, places)
    for code in absent:
        file.say("script", f"`languages` has {code}, but no row has letters of {code}", hint)
    for side in SIDES:
        for name, rows in left_in(file.sides[side], languages).items():
            if len(rows) > max(2, _MANY_FOREIGN * file.result.rows):
                message = f"{in_rows(len(rows))} whose {side} are {name}, which is not in "
                message += f"`languages` ({listed})"
                file.say("language", message, f"{hint}: were they translated?", rows)


def _mislabelled(
    name: str, labels: Mapping[str, str | None], languages: Languages
) -> Iterator[tuple[str, str]]:
    """Find sides unlike all files with the same tag, but like a file with another tag."""
    for side in SIDES:
        apart: Mapping[str, float] = {
            other: distance
            for other in labels
            if other != name
            and (distance := languages.distance((name, side), (other, side))) is not None
        }
        fellows = [d for other, d in apart.items() if labels[other] == labels[name]]
        strangers = {other: d for other, d in apart.items() if labels[other] != labels[name]}
        if not (labels[name] and fellows and strangers) or min(fellows) <= OTHER_LANGUAGE:
            continue
        nearest = min(strangers, key=lambda other: strangers[other])
        if strangers[nearest] <= OTHER_LANGUAGE:
            yield side, nearest
