"""The segmenter: pictures in, instances at source resolution out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamseg.errors import ConfigError
from streamseg.inference.devices import choose_device, choose_precision
from streamseg.inference.prepare import Normaliser, geometry, resize, stack
from streamseg.inference.streams import DeviceStreams
from streamseg.masks.upsample import Geometry, enlarge
from streamseg.models.nets.detector import Detector
from streamseg.models.nets.head import HeadOutput
from streamseg.models.postprocess.detections import Detections
from streamseg.models.weights.files import find_weights, load_detector
from streamseg.types import Instances, Meter


@dataclass(frozen=True, slots=True)
class Submitted:
    """A batch on its way through the device."""

    output: HeadOutput
    geometries: tuple[Geometry, ...]
    canvas: tuple[int, int]
    begun: torch.cuda.Event | None
    """When the network began; None on a CPU."""
    ready: torch.cuda.Event | None
    """When its output was there."""


class Segmenter:
    """A detector on a device.

    Call it with one picture, or :meth:`submit` batches and :meth:`collect` them from another
    thread: on CUDA the upload, the network and the post-processing of successive batches then
    overlap on streams of their own.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        name: str,
        device: str = "auto",
        precision: str = "auto",
        score: float = 0.3,
        classes: Sequence[str] | None = None,
        max_instances: int = 100,
        meter: Meter | None = None,
    ) -> None:
        """``meter`` is told how long a batch takes.

        Raises ConfigError for an unknown device, precision or class name.
        """
        self.name = name
        self._meter = meter
        self.spec = detector.spec
        self.classes = detector.spec.classes
        self.device = choose_device(device)
        self.dtype = choose_precision(precision, self.device)
        self._class_ids = _class_ids(classes, self.spec.classes)
        self._score = score
        # Maskness and decay only lower a score, and only better candidates lower it: one whose class
        # probability is below the wanted score can be passed over before its mask is built.
        threshold = max(self.spec.test.score_threshold, score)
        self._test = self.spec.test.model_copy(
            update={"max_instances": max_instances, "score_threshold": threshold}
        )
        detector = detector.eval().to(self.device, self.dtype)
        self._detector = detector.to(memory_format=torch.channels_last)
        self._normalise = Normaliser(self.spec.input, device=self.device, dtype=self.dtype)
        self._streams = DeviceStreams(self.device)
        if self.device.type == "cuda":
            # The weights got here on the default stream, which the others do not wait for.
            torch.cuda.synchronize(self.device)

    @classmethod
    def load(
        cls,
        weights: str = "demo",
        *,
        device: str = "auto",
        precision: str = "auto",
        score: float = 0.3,
        classes: Sequence[str] | None = None,
        max_instances: int = 100,
        meter: Meter | None = None,
    ) -> Segmenter:
        """Load bundled weights by name, or a ``.safetensors`` file by path.

        ``score`` in [0, 1] and ``classes`` (names) restrict what is returned. Raises WeightsError or
        ConfigError.
        """
        path = find_weights(weights)
        return cls(
            load_detector(path),
            name=path.stem,
            device=device,
            precision=precision,
            score=score,
            classes=classes,
            max_instances=max_instances,
            meter=meter,
        )

    def __call__(self, image: NDArray[np.uint8]) -> Instances:
        """Segment one picture, (H, W, 3) uint8 RGB."""
        return self.collect(self.submit([image]))[0]

    def canvas(self, height: int, width: int) -> tuple[int, int]:
        """Input size of the network for a picture: pictures of one canvas make a batch."""
        return geometry(height, width, self.spec.input).canvas

    def warm_up(self, height: int = 720, width: int = 1280) -> None:
        """Run once, so that the first real frame does not pay for memory and kernels."""
        self(np.zeros((height, width, 3), dtype=np.uint8))

    @torch.inference_mode()
    def submit(self, images: Sequence[NDArray[np.uint8]]) -> Submitted:
        """Start a batch of pictures, each (H, W, 3) uint8 RGB; on CUDA this does not wait for it.

        Smaller canvases are padded to the largest of the batch, as in the published code.
        """
        started = time.monotonic()
        geometries = tuple(geometry(image.shape[0], image.shape[1], self.spec.input) for image in images)
        canvas = (max(g.canvas[0] for g in geometries), max(g.canvas[1] for g in geometries))
        resized = [resize(image, g.resized) for image, g in zip(images, geometries, strict=True)]
        pictures = self._streams.upload(stack(resized, pinned=self.device.type == "cuda"))
        prepared = time.monotonic()
        with self._streams.computing(pictures):
            begun = self._streams.mark()
            output = self._detector(self._normalise(pictures, [g.resized for g in geometries], canvas))
            ready = self._streams.mark()
        self._tell("preprocess", prepared - started)
        if ready is None:
            self._tell("forward", time.monotonic() - prepared)
        return Submitted(output, geometries, canvas, begun, ready)

    @torch.inference_mode()
    def collect(self, submitted: Submitted) -> list[Instances]:
        """Wait for a batch and finish it: one Instances per picture."""
        if submitted.ready is not None:
            submitted.ready.synchronize()  # what follows on the host needs the output; so its time is its own
        started = time.monotonic()
        with self._streams.finishing(submitted.ready, _tensors(submitted.output)):
            detections = self._detector.detect(submitted.output, test=self._test, class_ids=self._class_ids)
            on_host = [_to_host(d, self._score) for d in detections]
        found = [
            self._instances(d, Geometry(g.source, g.resized, submitted.canvas))
            for d, g in zip(on_host, submitted.geometries, strict=True)
        ]
        self._tell("postprocess", time.monotonic() - started)
        if submitted.begun is not None and submitted.ready is not None:
            self._tell("forward", submitted.begun.elapsed_time(submitted.ready) / 1000)
        return found

    def _tell(self, stage: str, seconds: float) -> None:
        if self._meter is not None:
            self._meter.stage(stage, seconds)

    def _instances(self, found: _HostDetections, sizes: Geometry) -> Instances:
        boxes, crops = enlarge(found.soft_masks, sizes, threshold=self.spec.test.mask_threshold)
        # A mask can vanish when it is only a thread on the network's grid, or lies on the padding.
        kept = [k for k, crop in enumerate(crops) if crop.size]
        class_ids = found.class_ids[kept]
        return Instances(
            height=sizes.source[0],
            width=sizes.source[1],
            class_ids=class_ids,
            labels=tuple(self.spec.classes[c] for c in class_ids),
            scores=found.scores[kept],
            boxes=boxes[kept],
            crops=tuple(crops[k] for k in kept),
        )


@dataclass(frozen=True, slots=True)
class _HostDetections:
    class_ids: NDArray[np.int64]
    scores: NDArray[np.float32]
    soft_masks: NDArray[np.float32]


def _to_host(detections: Detections, score: float) -> _HostDetections:
    scores = detections.scores.cpu()
    n = int((scores >= score).sum())  # best first: the rest need not leave the device
    return _HostDetections(
        detections.class_ids[:n].cpu().numpy(), scores[:n].numpy(), detections.soft_masks[:n].cpu().numpy()
    )


def _tensors(output: HeadOutput) -> list[Tensor]:
    return [*output.class_logits, *output.mask_tensors()]


def _class_ids(wanted: Sequence[str] | None, known: Sequence[str]) -> list[int] | None:
    if wanted is None:
        return None
    for name in wanted:
        if name not in known:
            raise ConfigError(f"class {name!r}: this model knows {', '.join(known)}")
    return [known.index(name) for name in wanted]
