"""What a run reports while it goes on: CSV files, TensorBoard, an image of the curves, overlays."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from streamseg.training.data.coco import CocoImage
from streamseg.training.evaluation import ClassScore, Segment, format_table, means
from streamseg.training.report.charts import contact_sheet, draw_curves, write_png
from streamseg.training.report.csv_log import CsvLog

STEPS, SCORES, TABLE = "log.csv", "evaluation.csv", "evaluation.md"
CURVES, OVERLAYS, EVENTS = "curves.png", "overlays.png", "tensorboard"
_STEP_COLUMNS = ("step", "mask_loss", "class_loss", "learning_rate")
_SCORED = ("AP", "AP50", "AP75")


@dataclass(frozen=True, slots=True)
class StepReport:
    """What is reported of one step."""

    mask_loss: float
    class_loss: float
    learning_rate: float
    images: int
    """Of all processes and parts."""


class RunReport:
    """Writes into a run's folder; in processes other than the first it does nothing."""

    def __init__(
        self,
        folder: Path,
        classes: Sequence[str],
        *,
        step: int,
        steps: int,
        overlays: int,
        active: bool,
        progress: bool,
    ) -> None:
        """Go on after ``step`` of ``steps``; ``overlays`` is how many images :meth:`overlays` draws.

        ``classes`` are all of the model: another COCO file, from which a run may go on, has others of them.
        """
        self._folder, self._overlays, self._active = folder, overlays, active
        self._bar = tqdm(
            desc="training",
            total=steps,
            initial=step,
            unit="step",
            disable=not (progress and active),
            smoothing=0.05,
            dynamic_ncols=True,
        )
        if active:
            names = [f"{column} {name}" for name in ("mean", *classes) for column in _SCORED]
            self._steps = CsvLog(folder / STEPS, _STEP_COLUMNS, after=step)
            self._scores = CsvLog(folder / SCORES, ["step", *names], after=step)
            # Later steps in the folder are those of a run that was killed, or of an earlier one.
            self._board = SummaryWriter(str(folder / EVENTS), purge_step=step + 1)

    def __enter__(self) -> "RunReport":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        if self._active:
            self._steps.close()
            self._scores.close()
            self._board.close()

    def step(self, number: int, report: StepReport) -> None:
        """Write down one step."""
        if not self._active:
            return
        loss = report.mask_loss + report.class_loss
        self._bar.update()
        rate = self._bar.format_dict["rate"]
        self._bar.set_postfix(
            {"loss": f"{loss:.3f}"} | ({"images/s": f"{rate * report.images:.1f}"} if rate else {}),
            refresh=False,
        )
        self._steps.write(
            {
                "step": number,
                "mask_loss": report.mask_loss,
                "class_loss": report.class_loss,
                "learning_rate": report.learning_rate,
            }
        )
        self._board.add_scalar("loss/mask", report.mask_loss, number)
        self._board.add_scalar("loss/classes", report.class_loss, number)
        self._board.add_scalar("learning_rate", report.learning_rate, number)

    def evaluation(self, number: int, scores: Sequence[ClassScore]) -> None:
        """Write down the scores of an evaluation; values without objects are left blank."""
        mean = means(scores)
        row: dict[str, object] = {"step": number}
        for name, values in [("mean", mean), *((s.name, s.values) for s in scores)]:
            for column in _SCORED:
                if values[column] >= 0:
                    row[f"{column} {name}"] = values[column]
                    self._board.add_scalar(f"{column}/{name}", values[column], number)
        self._scores.write(row)
        (self._folder / TABLE).write_text(f"{format_table(scores)}\n")
        self.draw()

    def overlays(self, number: int, segment: Segment, images: Sequence[CocoImage]) -> None:
        """Draw what ``segment`` finds in some validation images."""
        if self._overlays:
            sheet = contact_sheet(segment, images, most=self._overlays)
            write_png(sheet, self._folder / OVERLAYS)
            self._board.add_image("overlays", sheet, number, dataformats="HWC")

    def draw(self) -> None:
        """Draw the curves up to now."""
        if self._active:
            self.flush()
            write_png(draw_curves(self._folder / STEPS, self._folder / SCORES), self._folder / CURVES)

    def flush(self) -> None:
        """Have all that was written survive a kill; call it before a checkpoint is written."""
        if self._active:
            self._steps.flush()
            self._scores.flush()
            self._board.flush()
