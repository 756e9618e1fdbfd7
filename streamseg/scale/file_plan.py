"""What is left of a work of recordings, as its outputs tell; and the list of it, from which one can go on.

The list lies beside the results: ids of streams stay the same for as long as the cluster is at work, also if
files come meanwhile, and a queue that begins anew finds out by the outputs how much of it is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from streamseg.config import parse_config
from streamseg.errors import RunError, UsageError
from streamseg.files import complete_file
from streamseg.outputs import NdjsonOutput, VideoOutput
from streamseg.runtime.build import plan_run
from streamseg.runtime.build_outputs import build_outputs
from streamseg.runtime.resume import unfinished
from streamseg.scale.file_places import (
    FOLDER,
    NAMED,
    FileOutput,
    clear_away,
    final_path,
    left_behind,
    put_in_order,
    root,
    templates,
)
from streamseg.scale.file_work import FileWork
from streamseg.scale.wanted import stream_config

_LIST = "files.jsonl"


@dataclass(frozen=True, slots=True)
class FilePlan:
    """What is left to do."""

    left: dict[str, bytes]
    """By stream: its configuration as JSON, which takes a quarter of the memory."""
    finished: int
    """Files that are done already."""
    refused: tuple[str, ...]
    """Why files cannot be read by their name."""

    def config_of(self, stream: str) -> dict[str, Any]:
        """Keys of :class:`streamseg.config.StreamConfig`."""
        config: dict[str, Any] = msgspec.json.decode(self.left[stream])
        return config


class SetAside:
    """The list of files that were given up: a JSON object a line."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def add(self, stream: str, source: str, reason: str) -> None:
        """One more. Raises OSError."""
        line = {"stream": stream, "source": source, "reason": reason, "time": round(time.time(), 3)}
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(line) + b"\n")

    def read(self) -> Iterator[dict[str, Any]]:
        """All whole lines; none if there is no list."""
        with suppress(FileNotFoundError), self._path.open("rb") as file:
            for line in file:
                with suppress(msgspec.DecodeError):
                    yield msgspec.json.decode(line)

    def clear(self) -> None:
        """Begin anew. Raises OSError."""
        self._path.unlink(missing_ok=True)


def plan_files(work: FileWork) -> FilePlan:
    """Find the files, and what is left to do of them; write the list of it.

    Raises UsageError, or RunError if outputs cannot be written.
    """
    config = parse_config(work.config, where="queue")
    outputs = [
        output for output in build_outputs(config, several=work.several) if isinstance(output, FileOutput)
    ]
    try:
        # Ids come from what has its name. What has none is looked for by the id.
        plan = plan_run(config, resume=True)
        ids = [source.id for source in plan.sources]
        plan.outputs[0].check(ids[:1])
        for output, template in zip(outputs, templates(config), strict=True):
            put_in_order(output, ids, template)
        left = unfinished(plan.sources, plan.outputs)
        entries = {s.id: msgspec.json.encode(stream_config(s, plan.rules[s.id])) for s in left}
        _list_of(work).parent.mkdir(parents=True, exist_ok=True)
        with complete_file(_list_of(work)) as partial, partial.open("wb") as file:
            file.writelines(line + b"\n" for line in entries.values())
        SetAside(work.set_aside).clear()
    except OSError as error:
        raise RunError(f"cannot write {error.filename}: {error.strerror or error}") from error
    return FilePlan(entries, len(plan.sources) - len(left), tuple(map(str, plan.refused)))


def go_on_with_list(work: FileWork) -> FilePlan:
    """What is left of the list that a former queue has written; files that were given up are not.

    Raises RunError: it cannot be read.
    """
    config = parse_config(work.config, where="queue")
    outputs = [
        o for o in build_outputs(config, several=work.several) if isinstance(o, NdjsonOutput | VideoOutput)
    ]
    given_up = {line["stream"] for line in SetAside(work.set_aside).read()}
    entries: dict[str, bytes] = {}
    finished = 0
    try:
        with _list_of(work).open("rb") as file:
            for line in file:
                stream = msgspec.json.decode(line)["id"]
                if all(output.has_finished(stream) for output in outputs):
                    finished += 1
                elif stream not in given_up:
                    entries[stream] = line
    except (OSError, msgspec.DecodeError) as error:
        raise RunError(f"cannot read {_list_of(work)}: {error}") from error
    return FilePlan(entries, finished, ())


def finder_of_remains(work: FileWork) -> Callable[[str], str | None]:
    """Tells who has left results of a stream that can be gone on with, see :meth:`FilePlaces.keep`."""
    config = parse_config(work.config, where="queue")
    for output, template in zip(build_outputs(config, several=work.several), templates(config), strict=True):
        if isinstance(output, NdjsonOutput):
            return _finder(output, template)
    raise UsageError("without results nobody can tell what is left")


def _finder(output: NdjsonOutput, template: str) -> Callable[[str], str | None]:
    remains, folder = left_behind(template), root(template)

    def left_by(stream: str) -> str | None:
        path = final_path(output, stream)
        found = remains.get(str(path.relative_to(folder)))
        return NAMED if path.exists() else found

    return left_by


def put_away(work: FileWork) -> None:
    """All is done: remove everything that is not an output."""
    clear_away(parse_config(work.config, where="queue"))


def _list_of(work: FileWork) -> Path:
    return Path(work.set_aside).parent / FOLDER / _LIST
