"""YAML of plain values: what a hostile or damaged file could hang or crash a reader with is refused in one line."""

from __future__ import annotations

from typing import Any

import yaml

from end2reg_ros.errors import CaseError

_LONGEST_NUMBER = 64
_MERGE_TAG = "tag:yaml.org,2002:merge"


class _Refused(yaml.YAMLError):
    """YAML that is well-formed, and more than plain values."""

    def __init__(self, node_or_event: Any, text: str) -> None:
        super().__init__(f"line {node_or_event.start_mark.line + 1}: {text}")


class _PlainLoader(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        # An alias can name a list that contains itself, or grow without bound by doubling.
        if self.check_event(yaml.AliasEvent):
            raise _Refused(self.peek_event(), f"aliases (*{self.peek_event().anchor}) are not read")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag == _MERGE_TAG:
                raise _Refused(key, "merge keys (<<) are not read")
            if not isinstance(key, yaml.ScalarNode):
                raise _Refused(key, "a name is a list or a mapping")
            if key.value in seen:
                raise _Refused(key, f"{_quoted(key.value)} is given twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: Any) -> Any:
        value = super().construct_scalar(node)
        if isinstance(value, str) and ("\0" in value or not _is_text(value)):
            raise _Refused(node, f"{_quoted(value)} has a character that no text can have")
        return value

    def construct_number(self, node: Any) -> Any:
        if len(node.value) > _LONGEST_NUMBER:
            raise _Refused(node, f"a number of {len(node.value)} characters")
        is_int = node.tag.endswith(":int")
        return self.construct_yaml_int(node) if is_int else self.construct_yaml_float(node)


for _tag in ("int", "float"):
    _PlainLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _PlainLoader.construct_number)


def parse_yaml(text: bytes, where: str) -> Any:
    """What a YAML text of plain values holds: no aliases, no merge keys, no name twice in a mapping.

    Args:
        where: begins the error text.

    Raises:
        CaseError: it is no YAML, or more than plain values.
    """
    try:
        # A subclass of SafeLoader: no objects but plain ones.
        return yaml.load(text, _PlainLoader)
    except _Refused as error:
        raise CaseError(f"{where}: {error}") from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise CaseError(f"{where}: not valid YAML ({' '.join(str(error).split())[:160]})") from None


def _is_text(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _quoted(value: str) -> str:
    return repr(value if len(value) <= 40 else value[:37] + "...")
