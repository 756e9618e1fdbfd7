"""What a run cannot work with although each key is valid by itself: found out before anything is read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from streamseg.config import RunConfig, hint
from streamseg.errors import UsageError
from streamseg.outputs import NdjsonOutput, VideoOutput
from streamseg.outputs.events import EventsOutput
from streamseg.outputs.files import files_beside
from streamseg.sources import Source
from streamseg.types import Output


def check_files_differ(sources: Sequence[Source], outputs: Sequence[Output]) -> None:
    """Make sure that no output file, nor its partial one, is another's, or a source. Raises UsageError."""
    read = {name for source in sources for name in _names_of(source.url)}
    written: set[str | tuple[int, int]] = set()
    for output in outputs:
        if not isinstance(output, NdjsonOutput | VideoOutput | EventsOutput):
            continue
        for path in filter(None, [output.path(source.id) for source in sources]):
            files = files_beside(path)
            names = [_names_of(file) for file in files]
            for file, of_file in zip(files, names, strict=True):
                if of_file & read:
                    as_ = "" if file == path else f" while {path} is written"
                    raise UsageError(f"{file} is a source itself{as_}: outputs need other names")
                if of_file & written:
                    raise UsageError(f"{file} is the file of two outputs: they need different names")
            written.update(*names)


def _names_of(path: str | Path) -> set[str | tuple[int, int]]:
    """What tells a file from all others: its real path; and if it exists, what all hard links to it share."""
    names: set[str | tuple[int, int]] = {os.path.realpath(path)}
    with suppress(OSError, ValueError):
        status = os.stat(path)
        names.add((status.st_dev, status.st_ino))
    return names


def check_blur(config: RunConfig, classes: Sequence[str]) -> None:
    """Make sure that the model finds all that is to be blurred; ``classes``: its own. Raises UsageError."""
    kept = [name for name in classes if config.model.classes is None or name in config.model.classes]
    for name in config.overlay.blur:
        if name not in kept:
            raise UsageError(
                f"overlay.blur: {name!r}{hint(name, kept)} is not looked for; allowed: {', '.join(kept)}"
            )


def check_rules(config: RunConfig, classes: Sequence[str]) -> None:
    """Make sure that each stream's rules can be met; ``classes``: the model's. Raises UsageError."""
    kept = [name for name in classes if config.model.classes is None or name in config.model.classes]
    for number, stream in enumerate(config.streams):
        where = f"streams.{number}"
        wanted = {f"{where}.classes": stream.classes or ()}
        wanted |= {f"{where}.zones.{name}.classes": zone.classes or () for name, zone in stream.zones.items()}
        wanted |= {f"{where}.lines.{name}.classes": line.classes or () for name, line in stream.lines.items()}
        for key, names in wanted.items():
            for name in names:
                if name not in kept:
                    raise UsageError(
                        f"{key}: {name!r}{hint(name, kept)} is not looked for; allowed: {', '.join(kept)}"
                    )
        if stream.score is not None and stream.score < config.model.score:
            raise UsageError(
                f"{where}.score {stream.score}: below model.score {config.model.score}, under which nothing "
                "is found"
            )
        if (stream.zones or stream.lines) and not config.tracking.enabled:
            raise UsageError(f"{where}: zones and lines need tracking.enabled: true")
