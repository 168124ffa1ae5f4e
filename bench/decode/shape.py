"""The JSON that a schema reads, as a tree: what engines that want nested types are told."""

from __future__ import annotations

from typing import TypeAlias

from omnistream.schema import Field, Schema, parse_path

# An object is a dict of its members; an array of objects is a list that holds one dict.
Tree: TypeAlias = "dict[str, Tree] | list[Tree] | Field"


def place_of(field: Field) -> tuple[bool, tuple[str, ...]]:
    """Say whether a field stands in a line, and the keys that lead to it from there or from the message."""
    keys, arrays = parse_path(field.json_path)
    return bool(arrays), keys[arrays[-1] :] if arrays else keys


def tree_of(schema: Schema) -> dict[str, Tree]:
    root: dict[str, Tree] = {}
    for field in schema.fields:
        keys, arrays = parse_path(field.json_path)
        at = root
        for depth, key in enumerate(keys[:-1], 1):
            below = at.setdefault(key, [{}] if depth in arrays else {})
            at = below[0] if isinstance(below, list) else below  # type: ignore[assignment]
        at[keys[-1]] = field
    return root
