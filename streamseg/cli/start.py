"""Starting a run: on one engine, in this process, or on several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from streamseg.cli.progress import Progress
from streamseg.cli.say import say
from streamseg.config import RunConfig
from streamseg.types import FrameResult, StreamInfo

if TYPE_CHECKING:
    from streamseg.runtime.pipeline import Pipeline
    from streamseg.scale.pool import EnginePool


def start(
    config: RunConfig, bar: Progress, *, resume: bool, log_options: Sequence[str]
) -> AbstractContextManager[Pipeline | EnginePool]:
    """A context manager in which ``config`` runs; ``bar`` is told of its progress.

    ``log_options`` are those of the command line, for other processes. Entering raises UsageError or
    RunError.
    """
    if isinstance(config.model.device, str):
        return _one_engine(config, bar, resume=resume)
    return _several_engines(config, bar, resume=resume, log_options=log_options)


@contextmanager
def _one_engine(config: RunConfig, bar: Progress, *, resume: bool) -> Iterator[Pipeline]:
    from streamseg.runtime.build import build_pipeline
    from streamseg.runtime.services import Services

    with Services(config) as services:
        _say_urls(services.urls)

        def observe(event: StreamInfo | FrameResult) -> None:
            services.observe(event)
            bar.observe(event)

        pipeline = build_pipeline(
            services.config, outputs=services.outputs, observe=observe, resume=resume, meter=services.meter
        )
        services.attach(pipeline)
        with pipeline:
            yield pipeline


@contextmanager
def _several_engines(
    config: RunConfig, bar: Progress, *, resume: bool, log_options: Sequence[str]
) -> Iterator[EnginePool]:
    from streamseg.scale.build import build_pool
    from streamseg.scale.services import EngineServices

    with EngineServices(config) as services:
        _say_urls(services.urls)
        pool = build_pool(
            services.config,
            token=services.token,
            resume=resume,
            opened=bar.observe,
            advanced=bar.advance,
            arguments=log_options,
        )
        services.attach(pool)
        with pool:
            yield pool


def _say_urls(urls: Sequence[str]) -> None:
    for url in urls:
        say(url)
