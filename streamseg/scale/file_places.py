"""Where files are while a cluster works at them, and how they get their names.

    out/.streamseg/ENGINE/clip.ndjson.partial    an engine writes it
    out/.streamseg/ENGINE/clip.ndjson            it is complete
    out/clip.ndjson                              it is committed, and never changed again

Every engine process has a folder of its own: one that was taken for lost and goes on writes nothing into a
file that another has begun meanwhile. The name of the results is made last, and once, by a hard link: it
says that a recording is done, and the first to make it holds.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from streamseg.config import RunConfig
from streamseg.errors import OutputError
from streamseg.files import commit_once, partial_path
from streamseg.outputs import NdjsonOutput, VideoOutput
from streamseg.outputs.events import EventsOutput
from streamseg.outputs.files import unfinished_mark, write_failure
from streamseg.outputs.kept import first_result
from streamseg.outputs.video import part_path
from streamseg.runtime.build_outputs import build_outputs
from streamseg.sources import place_key

FOLDER = ".streamseg"
"""In the folder of an output; hidden, so that nobody takes what lies in it for results."""
BEFORE = "before"
"""In that folder, in place of an engine: what a run on one machine has left."""
NAMED = ".."
"""The same: results that have their name already, while another file is missing."""
_PLACE = "{stream}"

FileOutput = NdjsonOutput | VideoOutput | EventsOutput


def root(template: str) -> Path:
    """The folder in which all files of a template lie.

    The template is that of :func:`streamseg.outputs.files.output_path`, and a folder ends in a slash.
    """
    return Path(template.partition(_PLACE)[0] + "x").parent


def staged_template(template: str, engine: str) -> str:
    """Where an engine writes what is to get its name by ``template``."""
    folder = root(template)
    return os.path.join(folder, FOLDER, engine, template[len(str(folder)) :].lstrip("/"))


def staged(config: RunConfig, engine: str) -> RunConfig:
    """The run of an engine that writes into its own folders."""
    outputs = tuple(
        output.model_copy(update={"path": staged_template(_path(output), engine)})
        for output in config.outputs
    )
    return config.model_copy(update={"outputs": outputs})


def templates(config: RunConfig) -> list[str]:
    """Of all outputs."""
    return [_path(output) for output in config.outputs]


def _path(output: object) -> str:
    path = getattr(output, "path", None)
    assert isinstance(path, str), "only files are written"
    return path


@dataclass(frozen=True, slots=True)
class _Pair:
    """A file of a stream, where it gets its name and where it is written."""

    final: Path
    written: Path
    results: bool


class FilePlaces:
    """The files of a run as one engine sees them."""

    def __init__(self, config: RunConfig, engine: str, *, several: bool) -> None:
        """``config``: outputs are files, and their folders end in a slash."""
        self._final = _outputs(config, several=several)
        self._written = _outputs(staged(config, engine), several=several)
        self._roots = [root(_path(output)) for output in config.outputs]

    def commit(self, stream: str, *, results: int) -> bool:
        """Give all files of a stream their names; False if another engine has done so, whose files stay.

        ``results``: how many there are; without any there is no video. Raises OutputError: a file is missing,
        or cannot get its name.
        """
        pairs = self._pairs(stream)
        if results:
            self._check_videos(stream)
        if not all(pair.final.exists() for pair in pairs):
            return self._commit(pairs)
        for pair in pairs:
            pair.written.unlink(missing_ok=True)
        return False

    def keep(self, stream: str, former: str, url: str) -> bool:
        """Let the engine go on with the results that another one has left; False if there are none.

        ``url``: what it reads. Raises OSError.
        """
        source, target = self._results(former, stream), self._pairs(stream)[-1].written
        first = None if source is None else first_result(source)
        if source is None or first is None or place_key(first.source) != place_key(url):
            return False
        if source not in {target, partial_path(target)}:
            with suppress(FileNotFoundError):
                target.unlink()
            target.parent.mkdir(parents=True, exist_ok=True)
            # A copy: whoever wrote it may only have been stopped, and have it open.
            shutil.copyfile(source, partial_path(target))
        return True

    def _check_videos(self, stream: str) -> None:
        for output in self._written:
            if isinstance(output, VideoOutput) and not output.path(stream).exists():
                raise OutputError(f"{output.path(stream).name}: was not written to its end")

    def _results(self, former: str, stream: str) -> Path | None:
        for output, folder in zip(self._final, self._roots, strict=True):
            if isinstance(output, NdjsonOutput):
                path = folder / FOLDER / former / final_path(output, stream).relative_to(folder)
                for name in (partial_path(path), path):
                    if name.exists():
                        return name
        return None

    def _pairs(self, stream: str) -> list[_Pair]:
        """Results last."""
        pairs = [
            pair
            for final, written in zip(self._final, self._written, strict=True)
            for pair in _files(final, written, stream)
        ]
        return sorted(pairs, key=lambda pair: pair.results)

    def _commit(self, pairs: Sequence[_Pair]) -> bool:
        first = True
        for pair in pairs:
            try:
                pair.final.parent.mkdir(parents=True, exist_ok=True)
                if pair.results:
                    first = commit_once(pair.written, pair.final) and first
                else:  # until the results have their name it may be of an engine that died: it is the same
                    pair.written.replace(pair.final)
            except OSError as error:
                raise write_failure(pair.final, error) from error
        return first


def _outputs(config: RunConfig, *, several: bool) -> list[FileOutput]:
    outputs = build_outputs(config, several=several)
    return [output for output in outputs if isinstance(output, FileOutput)]


def final_path(output: FileOutput, stream: str) -> Path:
    """Of an output to files. Raises UsageError."""
    path = output.path(stream)
    assert path is not None, "nothing goes to standard output"
    return path


def _files(final: FileOutput, written: FileOutput, stream: str) -> list[_Pair]:
    """Those of one output: a video has as many as there are, also none."""
    to, from_ = final_path(final, stream), final_path(written, stream)
    if not isinstance(final, VideoOutput):
        return [_Pair(to, from_, isinstance(final, NdjsonOutput))]
    parts = itertools.takewhile(lambda n: part_path(from_, n).exists(), itertools.count(1))
    return [_Pair(part_path(to, n), part_path(from_, n), results=False) for n in parts]


def put_in_order(output: FileOutput, streams: Iterable[str], template: str) -> None:
    """Before anything is handed out: a file that has its name is complete from now on.

    What a run on one machine has left is partial, or was stopped: it goes where engines leave theirs, and
    what is older than that goes away. Raises OSError.
    """
    folder = root(template)
    for stream in streams:
        path = final_path(output, stream)
        partial, mark = partial_path(path), unfinished_mark(path)
        was_stopped, there = mark.exists(), partial.exists()
        if not was_stopped and not there:
            continue
        kept = folder / FOLDER / BEFORE / path.relative_to(folder)
        kept.parent.mkdir(parents=True, exist_ok=True)
        if there:
            path.unlink(missing_ok=True)
            partial.replace(partial_path(kept))
        elif path.exists():
            path.replace(partial_path(kept))
        mark.unlink(missing_ok=True)


def left_behind(template: str) -> dict[str, str]:
    """Who has left most of each file: its name below the template's folder, and the engine's."""
    found: dict[str, tuple[int, str]] = {}
    home = root(template) / FOLDER
    for path in home.glob("*/**/*"):
        if path.is_file():
            engine, *rest = path.relative_to(home).parts
            name = os.path.join(*rest).removesuffix(partial_path(Path("x")).name[1:])
            with suppress(OSError):
                found[name] = max(found.get(name, (0, "")), (path.stat().st_size, engine))
    return {name: engine for name, (_, engine) in found.items()}


def clear_away(config: RunConfig) -> None:
    """Remove what engines have left, when all is done."""
    for template in templates(config):
        shutil.rmtree(root(template) / FOLDER, ignore_errors=True)
