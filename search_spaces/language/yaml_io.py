"""Safe reading and writing of YAML 1.2.

PyYAML follows YAML 1.1, where `1e-4` is a string, `no` is false, `1:30` is ninety and the last of repeated keys wins
silently. Here scalars follow the core schema of YAML 1.2 (section 10.3), and a repeated key is an error. The result
contains only mappings, lists and scalars.
"""

from __future__ import annotations

import os
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from search_spaces.errors import InvalidInputError, Problem

_CORE_SCHEMA = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    "merge": (r"<<", ["<"]),
}


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable):
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key!r} appears twice", key_node.start_mark
                    )
                seen.add(key)
        return super().construct_mapping(node, deep)


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    # int(text, 0) rejects leading zeros, which the core schema allows in decimal numbers.
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


class _Dumper(yaml.SafeDumper):
    """A dumper that quotes every string that YAML 1.1 or 1.2 would read as another type.

    Lists of scalars and short mappings of scalars are written in one line, and everything else in blocks.
    """

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
        node = super().represent_mapping(tag, mapping, flow_style)
        node.flow_style = all(_is_leaf(value) for _, value in node.value) and _length(node) <= _LINE
        return node

    def represent_sequence(
        self, tag: str, sequence: Any, flow_style: bool | None = None
    ) -> yaml.SequenceNode:
        node = super().represent_sequence(tag, sequence, flow_style)
        node.flow_style = all(isinstance(value, yaml.ScalarNode) for value in node.value)
        return node


_LINE = 80
"""Maximum number of characters of a mapping that is written in one line."""


def _is_leaf(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) or (
        isinstance(node, yaml.SequenceNode) and bool(node.flow_style)
    )


def _length(node: yaml.Node) -> int:
    if isinstance(node, yaml.ScalarNode):
        return len(node.value) + 2
    parts = (
        [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
    )
    return 2 + sum(map(_length, parts))


def _represent_float(dumper: _Dumper, value: float) -> yaml.ScalarNode:
    text = repr(value).replace("inf", ".inf").replace("nan", ".nan")
    if re.fullmatch(r"-?[0-9]+e[-+][0-9]+", text):
        text = text.replace("e", ".0e")  # YAML 1.1 reads 1e-05 as a string without the point
    return dumper.represent_scalar("tag:yaml.org,2002:float", text)


_Dumper.add_representer(float, _represent_float)
for _tag, (_pattern, _first) in _CORE_SCHEMA.items():
    for _side in (_Loader, _Dumper):
        _side.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


def parse_yaml(text: str, where: str = "the text") -> Any:
    """Parse one YAML document.

    Args:
        text: the document.
        where: name of its source for error messages.

    Raises:
        InvalidInputError: The text is not valid YAML or a key is repeated; the message has line and column.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # a subclass of SafeLoader: plain values only
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}, line {mark.line + 1}, column {mark.column + 1}" if mark else where
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        fix = "Check indentation, colons and quotes there."
        if "appears twice" in what:
            fix = "Keep one of the two."
        raise InvalidInputError(Problem(place, f"not valid YAML: {what}", fix)) from None


def load_yaml(path: str | Path) -> Any:
    """Read a YAML file.

    Raises:
        InvalidInputError: The file cannot be read, is not valid YAML, or repeats a key.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InvalidInputError(Problem(str(path), "no such file", "Check the path.")) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InvalidInputError(Problem(str(path), f"cannot be read: {reason}", "Check the file.")) from None
    return parse_yaml(text, str(path))


def dump_yaml(value: object) -> str:
    """Format a value as YAML: short innermost mappings and lists in one line, the rest in blocks."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def write_yaml(value: object, path: str | Path, header: str = "") -> None:
    """Write a value to a YAML file atomically, so that a full disk or a crash leaves the old file intact.

    Args:
        value: mappings, lists and scalars.
        path: path of the file.
        header: text that is written as comment lines before the value.
    """
    path = Path(path)
    comment = "".join(f"# {line}\n" if line else "#\n" for line in header.splitlines())
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(comment + dump_yaml(value), encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
