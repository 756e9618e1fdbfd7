"""Where graphs of bare networks are kept: in the package for the bundled model, else in the user's cache."""

import hashlib
import json
import logging
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from streamseg.files import complete_file
from streamseg.models.spec import ModelSpec

logger = logging.getLogger(__name__)

INPUT = "images"
WEIGHTS = "detector."
"""Before the name of a detector's tensor: a graph's initializer that it fills."""
_FORMAT = 3
"""Of the graphs; another number for every change of what a network computes from the same weights."""


def graph_key(spec: ModelSpec) -> str:
    """What a network's graph depends on, weights apart, in 16 hexadecimal digits."""
    facts = spec.model_dump(mode="json", exclude={"test", "classes", "input"}) | {
        "classes": len(spec.classes),
        "distractors": len(spec.distractors),
        "canvas": spec.input.canvas,
        "format": _FORMAT,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def read_graph(spec: ModelSpec) -> bytes | None:
    """The graph of a model's network, if it comes with the package or was made before."""
    for path in (shipped_graph(spec), cached_graph(spec)):
        try:
            return path.read_bytes()
        except OSError:
            continue
    return None


def shipped_graph(spec: ModelSpec) -> Path:
    """Where the package keeps a graph, if it does."""
    return Path(__file__).parent / "graphs" / f"{graph_key(spec)}.onnx"


def cached_graph(spec: ModelSpec) -> Path:
    """Where this version of the program keeps graphs that it made."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "streamseg" / "networks" / f"{graph_key(spec)}-{_version()}.onnx"


def keep_graph(spec: ModelSpec, graph: bytes) -> None:
    """Store a graph for the next start; a cache that cannot be written is no reason to stop."""
    path = cached_graph(spec)
    own = path.with_stem(f"{path.stem}.{os.getpid()}")  # another program may store the same one
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with complete_file(own) as partial:
            partial.write_bytes(graph)
        own.replace(path)
    except OSError as error:
        logger.info("the network's graph is not kept for the next start: %s", error)


def _version() -> str:
    try:
        return version("streamseg")
    except PackageNotFoundError:  # it runs from its folder
        return "source"
