"""From a configuration with several devices to a pool of engines."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from streamseg.config import MetricsConfig, RunConfig, ViewConfig
from streamseg.errors import UsageError
from streamseg.outputs import NdjsonOutput
from streamseg.redis.publish import RedisOutput
from streamseg.runtime.build import RunPlan, plan_run
from streamseg.runtime.checks import check_rules
from streamseg.runtime.resume import run_began, unfinished
from streamseg.scale.control import Ready
from streamseg.scale.handle import EngineSettings
from streamseg.scale.pool import EnginePool
from streamseg.types import StreamInfo


def build_pool(
    config: RunConfig,
    *,
    token: str,
    resume: bool = False,
    opened: Callable[[StreamInfo], None] = lambda _: None,
    advanced: Callable[[int], None] = lambda _: None,
    arguments: Sequence[str] = (),
) -> EnginePool:
    """Start nothing yet.

    Args:
        config: The run; ``model.device`` is a list.
        token: What the engines' own pages and metrics ask for.
        resume: Go on where an interrupted run over the same files stopped.
        opened: Hears of every opening.
        advanced: Hears how many frames have got their result.
        arguments: Options of the engines' command line, see :class:`streamseg.scale.EngineProcess`.

    Raises:
        UsageError: Something in ``config`` cannot work.
    """
    plan = plan_run(config, resume=resume)
    _check_outputs(plan)
    left, began = plan.sources, math.inf
    if resume:
        left, began = unfinished(plan.sources, plan.outputs), run_began(plan.sources, plan.outputs)
    pool = EnginePool(
        _devices(config),
        EngineSettings(_of_engine(config, token), len(plan.sources) > 1, arguments),
        RunPlan(left, plan.rules, plan.outputs, plan.refused),
        since=None if math.isinf(began) else began,
        check=lambda ready: _check_model(config, plan, ready, resume=resume),
        opened=opened,
        advanced=advanced,
    )
    pool.stats.finished_before = len(plan.sources) - len(left)
    return pool


def _devices(config: RunConfig) -> tuple[str, ...]:
    device = config.model.device
    return (device,) if isinstance(device, str) else device


def _of_engine(config: RunConfig, token: str) -> RunConfig:
    """What an engine serves, its parent alone fetches."""
    return config.model_copy(
        update={
            "view": ViewConfig(enabled=config.view.enabled, port=0, token=token),
            "metrics": MetricsConfig(enabled=config.metrics.enabled, port=0, token=token),
        }
    )


def _check_outputs(plan: RunPlan) -> None:
    """Make sure that all can be written; whether Redis lets us in, the engines find out before they read."""
    for output in plan.outputs:
        if isinstance(output, NdjsonOutput) and not output.to_files:
            raise UsageError(
                "results to standard output need one engine: name one device, or a folder for the results"
            )
        if not isinstance(output, RedisOutput):  # whose connection would stay
            output.check([source.id for source in plan.sources])


def _check_model(config: RunConfig, plan: RunPlan, ready: Ready, *, resume: bool) -> None:
    check_rules(config, ready.classes)
    if not resume:
        return
    for output in plan.outputs:
        for source in plan.sources:
            first = output.first_result(source.id) if isinstance(output, NdjsonOutput) else None
            if first is not None and first.model != ready.model:
                path = output.path(source.id) if isinstance(output, NdjsonOutput) else None
                raise UsageError(
                    f"--resume: {path} was made with the weights {first.model}, not {ready.model}"
                )
