"""From YAML and ``KEY=VALUE`` to plain values; ``${NAME}`` is the environment."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from streamseg.errors import ConfigError

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)\}")


def read_config(path: Path) -> dict[str, Any]:
    """Read a YAML file into plain values, environment variables put in. Raises ConfigError."""
    try:
        content = _load_yaml(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not valid YAML ({error})") from None
    if not isinstance(content or {}, dict):
        raise ConfigError(f"{path}: must be a mapping of keys to values, not a {type(content).__name__}")
    try:
        expanded: dict[str, Any] = _expand(content or {}, where=str(path))
    except RecursionError:  # YAML can refer to itself
        raise ConfigError(f"{path}: nested too deeply") from None
    return expanded


def _load_yaml(text: str) -> Any:
    """Read YAML. Raises ValueError, whose text quotes nothing: the line may hold a password."""
    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(where + re.sub(r"'[^']{2,}'", "'...'", str(error.problem))) from None
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except Exception as error:  # noqa: BLE001  explicit tags and dates make PyYAML raise whatever int() and others do
        raise ValueError(f"a value does not fit its tag ({type(error).__name__})") from None


def _expand(value: Any, *, where: str) -> Any:
    """Put environment variables in for every ``${NAME}`` in the strings of ``value``."""
    if isinstance(value, dict):
        return {key: _expand(item, where=f"{where}: {key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, where=where) for item in value]
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in os.environ:
            raise ConfigError(f"{where}: the environment variable {name} is not set")
        return os.environ[name]

    return _VARIABLE.sub(variable, value)


def set_key(content: dict[str, Any], assignment: str) -> None:
    """Apply ``dotted.path=value`` to plain values; the value is YAML and may hold ``${NAME}``.

    Raises ConfigError.
    """
    path, equals, text = assignment.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set {assignment!r}: write KEY=VALUE, e.g. batching.max_batch=4")
    try:
        value = _expand(_load_yaml(text), where=f"--set {path}")
    except ValueError as error:
        raise ConfigError(f"--set {path}=...: the value is not valid YAML ({error})") from None
    except RecursionError:  # YAML can refer to itself
        raise ConfigError(f"--set {path}=...: nested too deeply") from None
    *parents, last = path.split(".")
    place: Any = content
    for key in parents:
        place = _step_into(place, key, assignment)
    if isinstance(place, list):
        place[_index(place, last, assignment)] = value
    else:
        place[last] = value


def _step_into(place: Any, key: str, assignment: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, key, assignment)]
    inner = place.setdefault(key, {})
    if not isinstance(inner, dict | list):
        raise ConfigError(f"--set {assignment!r}: {key} holds a value, not keys")
    return inner


def _index(place: Sequence[Any], key: str, assignment: str) -> int:
    if not key.isdigit() or int(key) >= len(place):
        raise ConfigError(f"--set {assignment!r}: {key} is not an index below {len(place)}")
    return int(key)
