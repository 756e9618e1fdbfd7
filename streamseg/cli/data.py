"""``streamseg train``, ``eval`` and ``models``."""

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import click

from streamseg.errors import UsageError

if TYPE_CHECKING:
    from streamseg.models.nets.detector import Detector
    from streamseg.training.data.coco import BadAnnotations, Crowds
    from streamseg.training.evaluation import Segment
    from streamseg.training.loop import Outcome

TRAIN_EXAMPLE = "Example: streamseg train configs/train_demo.yaml --resume"
EVAL_EXAMPLE = "Example: streamseg eval --weights demo --images val/ --annotations val.json"
MODELS_EXAMPLE = "Example: streamseg models"


@click.command("train", epilog=TRAIN_EXAMPLE)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--resume", is_flag=True, help="Continue from the last checkpoint.")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a key of the configuration, e.g. schedule.batch=8; may be repeated.",
)
def train(*, config: Path, resume: bool, changes: tuple[str, ...]) -> int:
    """Train a model on images with COCO annotations, as the YAML file CONFIG says."""
    from streamseg.cli.logs import configure_logging
    from streamseg.training.config import read_train_config

    configure_logging("info", as_json=False)
    settings = read_train_config(config, changes)
    outcome: Outcome = _loop().train(
        settings, resume=resume, progress=sys.stderr.isatty(), make_segment=_segmenter_in_training
    )
    if not outcome.main:
        return 0
    if outcome.signal is not None:
        after = f"after step {outcome.steps}; --resume goes on from there"
        sys.stderr.write(f"stopped {after if outcome.steps else 'before a step was taken'}\n")
        return 128 + outcome.signal
    if outcome.table is not None:
        sys.stdout.write(f"{outcome.table}\n")
    sys.stdout.write(f"{outcome.weights}\n")
    return 0


def _loop() -> ModuleType:
    """The training loop. Raises UsageError if the packages of the extra ``train`` are missing."""
    try:
        from streamseg.training import loop
    except ModuleNotFoundError as error:
        raise UsageError(f"train needs the package {error.name}: pip install 'streamseg[train]'") from error
    return loop


def _segmenter_in_training(detector: "Detector", device: str, precision: str) -> "Segment":
    from streamseg.inference import Segmenter

    return Segmenter(detector, name="training", device=device, precision=precision, score=0.0)


@click.command("eval", epilog=EVAL_EXAMPLE)
@click.option("--weights", default="demo", show_default=True, help="Bundled name or .safetensors file.")
@click.option(
    "--images", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder of the images."
)
@click.option(
    "--annotations", required=True, type=click.Path(path_type=Path), metavar="FILE", help="COCO annotations."
)
@click.option(
    "--predictions",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the predictions here, in COCO results format.",
)
@click.option(
    "--crowds",
    type=click.Choice(["ignore", "teach"]),
    default="ignore",
    show_default=True,
    help="Objects marked iscrowd: ignored, as COCO does, or scored as they are taught.",
)
@click.option(
    "--bad-annotations",
    type=click.Choice(["refuse", "skip"]),
    default="refuse",
    show_default=True,
    help="Annotations that cannot be right.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
def evaluate(
    *,
    weights: str,
    images: Path,
    annotations: Path,
    predictions: Path | None,
    crowds: "Crowds",
    bad_annotations: "BadAnnotations",
    device: str,
) -> None:
    """Print the COCO mask AP of some weights; the data is checked as for training."""
    from streamseg.cli.logs import configure_logging
    from streamseg.inference import Segmenter
    from streamseg.training.evaluation import Stopwatch, format_table
    from streamseg.training.evaluation import evaluate as score_predictions

    configure_logging("info", as_json=False)
    segmenter = Segmenter.load(weights, device=device, score=0.0)
    timed = Stopwatch(segmenter)
    scores = score_predictions(
        timed,
        segmenter.spec.classes,
        images=images,
        annotations=annotations,
        predictions=predictions,
        crowds=crowds,
        bad_annotations=bad_annotations,
        progress=sys.stderr.isatty(),
    )
    precision = str(segmenter.dtype).removeprefix("torch.")
    sys.stdout.write(f"{format_table(scores)}\n{timed.speed()} on {segmenter.device} in {precision}\n")


@click.command("models", epilog=MODELS_EXAMPLE)
def models() -> None:
    """List the bundled weights, the published models and what models are made of."""
    from typing import get_args

    from streamseg.cli.describe import describe_model
    from streamseg.models.spec import Architecture, BackboneName
    from streamseg.models.weights.files import bundled_weights, read_spec
    from streamseg.models.weights.zoo import count_parameters, official_models, read_model

    sys.stdout.write("bundled weights:\n")
    for name, path in bundled_weights().items():
        spec, size = read_spec(path), path.stat().st_size / 1e6
        sys.stdout.write(
            f"  {name}: {describe_model(spec)}, {size:.1f} MB, classes {', '.join(spec.classes)}\n"
        )
    sys.stdout.write("published models (their checkpoints are read by streamseg convert):\n")
    for name, path in official_models().items():
        spec = read_model(path)
        sys.stdout.write(
            f"  {name}: {describe_model(spec)}, {count_parameters(spec) / 1e6:.2f} M parameters\n"
        )
    sys.stdout.write(f"architectures: {', '.join(get_args(Architecture))}\n")
    sys.stdout.write(f"backbones: {', '.join(get_args(BackboneName))}\n")
