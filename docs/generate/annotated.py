"""A configuration with every key: its default, and what it means."""

import textwrap
from collections.abc import Iterator

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from docs.generate.keys import keys_of, sections_in, yaml_value
from streamseg.config import LineConfig, RunConfig, StreamConfig, ZoneConfig

_WIDTH = 100
_EXAMPLES: dict[tuple[str, str], str] = {
    ("StreamConfig", "url"): '"rtsp://10.0.0.5/stream1"',
    ("StreamConfig", "id"): "lobby",
    ("ZoneConfig", "polygon"): "[[0.1, 0.5], [0.6, 0.5], [0.6, 1.0], [0.1, 1.0]]",
    ("LineConfig", "points"): "[[0.1, 0.5], [0.9, 0.5]]",
    ("VideoConfig", "path"): '"out/{stream}.mp4"',
    ("NdjsonConfig", "path"): '"out/{stream}.ndjson"',
    ("EventsConfig", "path"): '"out/{stream}.events.ndjson"',
    ("RedisConfig", "url"): '"redis://localhost:6379/0"',
    ("MqttConfig", "url"): '"mqtt://localhost:1883"',
    ("WebhookConfig", "url"): '"https://example.org/hook"',
}
"""Values of keys that have no default."""
_NAMED: dict[str, tuple[str, type[BaseModel]]] = {
    "zones": ("queue", ZoneConfig),
    "lines": ("gate", LineConfig),
}


def annotated() -> str:
    """The file's text."""
    lines = [
        "# Every key of a run with its default. Keys of other types of outputs stand in that list as well."
    ]
    for name, field in RunConfig.model_fields.items():
        kinds = list(sections_in(field.annotation))
        lines += ["", *_comment(_description(RunConfig, name), "")]
        if not kinds:
            lines.append(f"{name}: {yaml_value(field.default)}")
        elif kinds == [field.annotation]:
            lines += [f"{name}:", *_keys(kinds[0], "  ")]
        else:
            listed = [kind for kind in kinds if kind not in (ZoneConfig, LineConfig)]
            lines += [f"{name}:", *(line for kind in listed for line in _item(kind))]
    return "\n".join(lines) + "\n"


def _item(kind: type[BaseModel]) -> Iterator[str]:
    """One element of a list."""
    yield ""
    if kind is not StreamConfig:
        yield from _comment(_description(kind, "type"), "  ")
    first, *rest = _keys(kind, "    ")
    while first.lstrip().startswith("#"):
        yield first.replace("    #", "  #", 1)
        first, *rest = rest
    yield first.replace("    ", "  - ", 1)
    yield from rest


def _keys(section: type[BaseModel], indent: str) -> Iterator[str]:
    for key in keys_of(section):
        field = section.model_fields[key.name]
        if key.name == "type":
            yield f"{indent}type: {key.allowed.strip('`')}"
            continue
        yield from _comment(key.description, indent)
        if key.name in _NAMED and section is StreamConfig:
            name, kind = _NAMED[key.name]
            yield f"{indent}{key.name}:"
            yield f"{indent}  {name}:"
            yield from _keys(kind, f"{indent}    ")
            continue
        yield f"{indent}{key.name}: {_value(section, key.name, field.default)}"


def _value(section: type[BaseModel], name: str, default: object) -> str:
    if (section.__name__, name) in _EXAMPLES:
        return _EXAMPLES[section.__name__, name]
    if default is not PydanticUndefined:
        return yaml_value(default)
    kind = keys_of(section)[0].allowed.strip("`")
    assert name == "url", f"{section.__name__}.{name} has no default and needs an example in {__name__}"
    return f'"{kind}://localhost/{{stream}}"'


def _description(section: type[BaseModel], name: str) -> str:
    return next(key.description for key in keys_of(section) if key.name == name)


def _comment(text: str, indent: str) -> list[str]:
    plain = text.replace("`", "")
    return [f"{indent}# {line}" for line in textwrap.wrap(plain, _WIDTH - len(indent))]
