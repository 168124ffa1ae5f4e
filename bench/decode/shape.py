"""The JSON that a schema reads, as a tree: what engines that want nested types are told."""

from __future__ import annotations

from typing import TypeAlias

from omnistream.schema import Field, Schema, parse_path

# An object is a dict of its members; an array of objects is a list that holds one dict.
Tree: TypeAlias = "dict[str, Tree] | list[Tree] | Field"


def tree_of(schema: Schema) -> dict[str, Tree]:
    root: dict[str, Tree] = {}
    for field in schema.fields:
        keys, element = parse_path(field.json_path)
        at = root
        for depth, key in enumerate(keys[:-1], 1):
            if depth == element:
                at = at.setdefault(key, [{}])[0]  # type: ignore[index,assignment,union-attr]
            else:
                at = at.setdefault(key, {})  # type: ignore[assignment,union-attr]
        at[keys[-1]] = field
    return root


def nests(schema: Schema) -> bool:
    return any(not isinstance(branch, Field) for branch in tree_of(schema).values())
