"""The attribute of a feature, or the label of a box, that gives it a class: how labels are read, backwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rvbuild.errors import DataError
from rvbuild.geo.classes import NamedClasses, names
from rvbuild.geo.labels.vector import text_of
from rvbuild.geo.vector.box_files import FileBoxes
from rvbuild.geo.vector.files import Features
from rvbuild.geo.vector.reading import class_attribute, class_attributes
from rvbuild.settings.labels import BoxFileSettings, FeatureSettings


def class_values(
    features: Features, place: int | None, class_name: str, settings: FeatureSettings, classes: NamedClasses
) -> dict[str, object]:
    """Return the attributes to set so that a feature has a class; none if all features have it.

    Parameters
    ----------
    features
        Those of the file, with the attributes that give classes.
    place
        The feature among them; None for a new one.
    class_name
        The class.
    settings, classes
        How the labels are read.

    Raises
    ------
    DataError
        The class of a feature is not in an attribute, or the project gives no value for it.
    """
    if settings["class"] is not None:
        _require_same(features.path, settings["class"], class_name)
        return {}
    asked = class_attributes(settings)
    present = [name for name in asked if name in features.columns]
    if not present:
        raise DataError(
            f"{features.path}: the class of its features is not in an attribute ({', '.join(asked)}) but follows from "
            "others, so it cannot be set; edit the file by hand"
        )
    own = {} if place is None else features.attributes[place]
    filled = [name for name in present if own.get(name) is not None] or [_most_used(features, present)]
    values = {
        name: value
        for name in filled
        if (value := _value(features, name, own.get(name), class_name, settings, classes)) is not None
    }
    if not values:
        raise DataError(f'{features.path}: `class_map` in `labels` has no value for the class "{class_name}"; add one')
    return values


def box_label(content: FileBoxes, class_name: str, settings: BoxFileSettings) -> str | None:
    """Return the label in a box file that means a class; None if all boxes are of it.

    Raises
    ------
    DataError
        The project gives no label for it.
    """
    if settings["class"] is not None:
        _require_same(content.path, settings["class"], class_name)
        return None
    mapping = settings["class_map"]
    if mapping is None:
        return class_name
    used = Counter(label if label is not None else id_ for label, id_ in zip(content.labels, content.ids, strict=True))
    return _key(content.path, mapping, class_name, {str(label): count for label, count in used.items()})


def _require_same(path: Path, class_of_all: str | None, class_name: str) -> None:
    if class_of_all != class_name:
        raise DataError(
            f'{path}: all of its labels are of the class "{class_of_all}" (`class` in `labels`), so none can be of '
            f'"{class_name}"; move the label to another file by hand'
        )


def _most_used(features: Features, present: Sequence[str]) -> str:
    """Return the attribute in which most features have a value, the first of equals."""
    counts = {name: sum(values.get(name) is not None for values in features.attributes) for name in present}
    return max(present, key=lambda name: counts[name])


def _value(
    features: Features, name: str, own: object, class_name: str, settings: FeatureSettings, classes: NamedClasses
) -> object:
    """Return the value of an attribute that means a class; None if the attribute says nothing about classes."""
    values = [value for each in features.attributes if (value := each.get(name)) is not None]
    mapping = settings["class_map"]
    if mapping is not None:
        used = Counter(map(text_of, values))
        return _typed(_key(features.path, mapping, class_name, used), values)
    known = names(classes)
    if name == "label" and class_attribute(settings) is None and own is not None and text_of(own) not in known:
        return None  # a text about something else, beside the attribute of the class
    numbered = name in ("class_id", class_attribute(settings))
    like = values if own is None else [own]
    if numbered and like and all(text_of(value).isdigit() for value in like):
        return _typed(str(known.index(class_name)), like)
    if numbered and not like and name == "class_id":
        return known.index(class_name)
    return class_name


def _key(path: Path, mapping: Mapping[str, str], class_name: str, used: Mapping[str, int]) -> str:
    """Return the key of `class_map` that means a class: that which the file uses most, or else the first."""
    keys = [key for key, name in mapping.items() if name == class_name]
    if not keys:
        raise DataError(f'{path}: `class_map` in `labels` has no value for the class "{class_name}"; add one')
    return max(keys, key=lambda key: used.get(key, 0))


def _typed(text: str, values: Sequence[object]) -> object:
    """Return a value as those that are there: a whole number, a float or a text."""
    for kind in (int, float):
        if values and all(type(value) is kind for value in values):
            try:
                return kind(text)
            except ValueError:
                return text
    return text
