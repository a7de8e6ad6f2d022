"""What the features of a class have in common, which a new feature of the class gets as well."""

from __future__ import annotations

from collections.abc import Container

from rvbuild.geo.classes import NamedClasses, names
from rvbuild.geo.labels.vector import class_ids
from rvbuild.geo.vector.files import Features, read_features
from rvbuild.review.edits.edit import Shared
from rvbuild.settings.labels import FeatureSettings

FEWEST = 3
"""Features of a class before it says something that they have a value in common."""


def shared_by(
    features: Features, class_name: str, settings: FeatureSettings, classes: NamedClasses, own: Container[str]
) -> Shared | None:
    """Return the attributes whose value is the same in all labels of a class; None if there are none.

    Parameters
    ----------
    features
        The labels of a file, with the attributes that give their classes.
    class_name
        The class.
    settings, classes
        How the labels are read.
    own
        Attributes that a new feature has a value of its own for.
    """
    class_id = names(classes).index(class_name)
    of_class = [place for place, id_ in enumerate(class_ids(features, settings, classes)) if id_ == class_id]
    if len(of_class) < FEWEST:
        return None
    encoding = settings.get("encoding")
    columns = read_features(features.path, layer=features.layer, attributes=("",), encoding=encoding).columns
    whole = read_features(features.path, layer=features.layer, attributes=columns, encoding=encoding)
    attributes = dict(zip(whole.numbers, whole.attributes, strict=True))
    first, *others = (attributes[features.numbers[place]] for place in of_class)
    shared = tuple(
        name
        for name, value in first.items()
        if name not in own
        and value is not None
        and all(type(each[name]) is type(value) and each[name] == value for each in others)
    )
    place = of_class[0]
    return Shared(features.numbers[place], features.ids[place], shared) if shared else None
