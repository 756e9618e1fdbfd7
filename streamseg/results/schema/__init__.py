"""The frame result as a JSON Schema, for programs in any language.

    python -m streamseg.results.schema > streamseg/results/schema/frame_result.json

writes the file from the types of :mod:`streamseg.types`; a test compares the two. A reader has to ignore
keys that it does not know: version 1 may get more of them.
"""

import ast
import inspect
import textwrap
from importlib.resources import files
from typing import Any

import msgspec

from streamseg.masks.rle import RunLengths
from streamseg.types import RESULT_VERSION, FrameResult, InstanceResult, Outvoted
from streamseg.types.ids import ID_PATTERN, ID_RULE
from streamseg.types.zones import EVENT_VERSION, ZoneEvent

FILE = "frame_result.json"
_TYPES: tuple[type[msgspec.Struct], ...] = (FrameResult, InstanceResult, Outvoted, RunLengths, ZoneEvent)

_COUNT = {"minimum": 0}
# What the Python types do not say: ranges and patterns, by type and key.
_LIMITS: dict[str, dict[str, dict[str, Any]]] = {
    "FrameResult": {
        "v": {"const": RESULT_VERSION},
        "stream": {"pattern": ID_PATTERN, "description": ID_RULE},
        "epoch": _COUNT,
        "frame": _COUNT,
        "width": {"minimum": 1},
        "height": {"minimum": 1},
    },
    "InstanceResult": {
        "id": _COUNT,
        "class_id": _COUNT,
        "score": {"minimum": 0, "maximum": 1},
        "area": {"minimum": 1},
    },
    "Outvoted": {"class_id": _COUNT},
    "ZoneEvent": {"v": {"const": EVENT_VERSION}, "epoch": _COUNT, "frame": _COUNT, "id": _COUNT},
}


def frame_result_schema() -> dict[str, Any]:
    """The schema of a frame result (JSON Schema, draft 2020-12), made from the types."""
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:streamseg:frame-result:{RESULT_VERSION}",
        "title": f"streamseg frame result, version {RESULT_VERSION}",
    }
    schema |= msgspec.json.schema(FrameResult)
    for type_ in _TYPES:
        keys: dict[str, Any] = schema["$defs"][type_.__name__]["properties"]
        descriptions = field_descriptions(type_)
        for field in msgspec.structs.fields(type_):
            key = keys[field.encode_name]
            key |= _LIMITS.get(type_.__name__, {}).get(field.encode_name, {})
            if field.name in descriptions:
                key["description"] = descriptions[field.name]
    return schema


def stored_schema() -> str:
    """The text of the file that is installed with the package."""
    return files(__name__).joinpath(FILE).read_text()


def schema_text() -> str:
    """The text that the file has to hold."""
    return msgspec.json.format(msgspec.json.encode(frame_result_schema()), indent=2).decode() + "\n"


def field_descriptions(type_: type) -> dict[str, str]:
    """The docstrings below the fields of a class."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(type_))).body
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for field, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match after:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    found[field.target.id] = " ".join(text.split())
    return found
