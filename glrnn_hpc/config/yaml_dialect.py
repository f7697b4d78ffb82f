"""YAML dialect of configurations and sweep files: YAML 1.1 with `1e-4` as a number and `1:30` as a text."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from glrnn_hpc.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """Safe YAML 1.1 with two rules of YAML 1.2: `1e-4` is a number, `1:30` is none.

    All else is YAML 1.1: `010` is 8, and `yes`, `no`, `on` and `off` are true and false. Duplicate keys and mappings
    within themselves are refused.
    """

    def construct_document(self, node: yaml.Node) -> Any:
        # Otherwise PyYAML makes what is inside later, and an alias of the outside is an endless mapping.
        self.deep_construct = True
        return super().construct_document(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a scalar", key_node.start_mark)
            if key in keys:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key!r}", key_node.start_mark)
            keys.add(key)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quote the strings that `_Loader` would read as numbers, such as the group name 0.2e6."""


def _number_without_colons(kind: str, construct: Callable[[_Loader, yaml.ScalarNode], Any]) -> None:
    # YAML 1.1 counts in sixties: a time of 12:00:00 would be the number 43200.
    def constructed(loader: _Loader, node: yaml.ScalarNode) -> Any:
        return node.value if ":" in node.value else construct(loader, node)

    _Loader.add_constructor(f"tag:yaml.org,2002:{kind}", constructed)


_number_without_colons("int", _Loader.construct_yaml_int)
_number_without_colons("float", _Loader.construct_yaml_float)

for _dialect in (_Loader, _Dumper):
    _dialect.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"),
        list("-+.0123456789"),
    )


def parse_yaml(text: str, where: str) -> Any:
    """Parse YAML text; `where` names it in the error.

    Raises
    ------
    ConfigError
        If the text is not YAML, a mapping has a key twice, or something is part of itself or nested too deeply.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError as error:
        raise ConfigError(f"{where}: not valid YAML: it is nested too deeply.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from error


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Raises
    ------
    ConfigError
        If the file is missing, is no text, is not YAML, or holds something else than a mapping.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such file.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text: {error}") from error
    content = parse_yaml(text, str(path))
    if not isinstance(content, dict):
        kind = "an empty file" if content is None else f"a {type(content).__name__}"
        raise ConfigError(f"{path}: a mapping of keys to values is needed, this is {kind}.")
    return content


def dump_yaml(content: Mapping[str, Any]) -> str:
    """Write a mapping as YAML text in the order of its keys."""
    return str(
        yaml.dump(
            dict(content), Dumper=_Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120
        )
    )
