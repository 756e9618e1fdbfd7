"""The model at work: a batch goes to the device, comes back as small arrays, and is finished on the host.

submit(pictures)    resize, upload, network                        returns at once
wait(ticket)        candidates, masks, Matrix NMS, download        the device is free after it
finish(ticket, k)   masks of picture k at source resolution        host only, any thread
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Literal, cast, overload

import numpy as np
import torch
from numpy.typing import NDArray

from streamseg.config import ModelConfig, hint, one_device, parse_model
from streamseg.errors import ConfigError
from streamseg.inference.collect import collector
from streamseg.inference.devices import choose_device
from streamseg.inference.finish import make_instances
from streamseg.inference.pictures import PictureLike, to_rgb
from streamseg.inference.prepare import Preparation, check_picture, choose_preparer
from streamseg.inference.runtimes import choose_network
from streamseg.inference.runtimes.graphs import graph_size
from streamseg.inference.streams import DeviceStreams
from streamseg.inference.tickets import BatchTicket, Computing
from streamseg.masks.upsample import Geometry
from streamseg.models.input_size import geometry
from streamseg.models.nets.detector import Detector
from streamseg.models.weights.files import find_weights, load_detector
from streamseg.types import Instances, Meter

_BATCH = 8
"""Pictures of a list that go to the device together, as :class:`BatchingConfig` has it for streams."""


class Segmenter:
    """A detector on a device.

    Call it with one picture or a list of them. Or :meth:`submit` batches, :meth:`wait` for them in another
    thread and :meth:`finish` their pictures in any: on CUDA the upload, the network and the post-processing
    of successive batches then overlap on streams of their own.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        name: str,
        device: str = "auto",
        precision: str = "auto",
        runtime: str = "torch",
        score: float = 0.3,
        classes: Sequence[str] | None = None,
        max_instances: int | None = None,
        overlap: Literal["class", "any"] | None = None,
        meter: Meter | None = None,
    ) -> None:
        """Put a copy of ``detector`` on the device; the other arguments are those of :meth:`load`.

        Raises ConfigError for an unknown device, precision, runtime or class name, and for no class at all.
        """
        self.name = name
        self._meter = meter
        self.spec = detector.spec
        self.classes = detector.spec.classes
        self.device = choose_device(device)
        class_ids = _class_ids(classes, self.spec.classes)
        self._network = choose_network(detector, device=self.device, precision=precision, runtime=runtime)
        self.runtime = self._network.runtime
        """What computes the network, and in which precision: ``openvino (bf16)``."""
        self.dtype = self._network.dtype
        test = self.spec.test
        # Maskness and decay only lower a score, and only better candidates lower it: one whose class
        # probability is below the wanted score can be passed over before its mask is built.
        test = test.model_copy(
            update={
                "max_instances": test.max_instances if max_instances is None else max_instances,
                "score_threshold": max(test.score_threshold, score),
                "filter_threshold": max(test.filter_threshold, score),
                "overlap": overlap or test.overlap,
            }
        )
        self._collect = collector(self.device, test.mask_threshold)
        self._postprocessor = detector.postprocessor(test, self.device, class_ids)
        self._preparer = choose_preparer(self.spec.input, self.device, self.dtype)
        self._streams = DeviceStreams(self.device)

    @classmethod
    def load(
        cls,
        weights: str | os.PathLike[str] = "demo",
        *,
        device: str | torch.device = "auto",
        precision: str = "auto",
        runtime: str = "auto",
        score: float = 0.3,
        classes: Sequence[str] | None = None,
        max_instances: int | None = None,
        overlap: Literal["class", "any"] | None = None,
        meter: Meter | None = None,
    ) -> Segmenter:
        """Load bundled weights by name, or a ``.safetensors`` file by path.

        Args:
            weights: Name of bundled weights, or path of a file.
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
            precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``; auto: half precision wherever it is faster.
            runtime: ``auto``, ``torch``, ``onnxruntime`` or ``openvino``: what computes the network on a CPU;
                auto takes the fastest, see :func:`~streamseg.inference.runtimes.choose_network`.
            score: Instances below this score, in [0, 1], are left out.
            classes: Names of the classes to look for, at least one; all that the model knows if not given.
            max_instances: At most so many per picture, the best ones; None: as the weights say.
            overlap: What is found under a better object and left out: another of its ``class``, or ``any``
                other; None: as the weights say.
            meter: Is told how long the stages ``preprocess``, ``forward`` and ``postprocess`` of a batch
                take, and ``finish`` of each picture.

        Raises:
            WeightsError: There are no such weights, or they cannot be read.
            ConfigError: Another argument has a value that the section ``model`` of a configuration may not
                have either, or a class name is unknown.
        """
        options = {
            "weights": os.fspath(weights) if isinstance(weights, os.PathLike) else weights,
            "device": str(device) if isinstance(device, torch.device) else device,
            "precision": precision,
            "runtime": runtime,
            "score": score,
            "classes": classes,
            "max_instances": max_instances,
            "overlap": overlap,
        }
        return cls.of(parse_model(options), meter=meter)

    @classmethod
    def of(cls, config: ModelConfig, *, meter: Meter | None = None) -> Segmenter:
        """What a section ``model`` describes. Raises WeightsError or ConfigError as :meth:`load`."""
        path = find_weights(config.weights)
        return cls(
            load_detector(path),
            name=path.stem,
            device=one_device(config),
            precision=config.precision,
            runtime=config.runtime,
            score=config.score,
            classes=config.classes,
            max_instances=config.max_instances,
            overlap=config.overlap,
            meter=meter,
        )

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a text is a path, though also a sequence of texts
        self, image: PictureLike
    ) -> Instances: ...
    @overload
    def __call__(self, image: Sequence[PictureLike]) -> list[Instances]: ...
    def __call__(self, image: PictureLike | Sequence[PictureLike]) -> Instances | list[Instances]:
        """Segment one picture, or a list of them.

        Args:
            image: (H, W, 3) uint8 RGB; or anything else that :mod:`streamseg.inference.pictures` knows:
                gray and RGBA arrays, tensors, PIL pictures, paths.

        Returns:
            N :class:`~streamseg.types.Instances`, best score first: ``labels``, ``scores``, ``boxes`` in
            pixels of the picture, and ``masks()``, (N, H, W) bool. Of a list, such instances for each.

        Raises:
            TypeError: It is no picture.
            ValueError: It has the shape of none, or the file cannot be read.
        """
        if isinstance(image, list | tuple):
            return self._segment_all(image)
        return self._segment([to_rgb(cast("PictureLike", image))])[0]

    def _segment_all(self, pictures: Sequence[PictureLike]) -> list[Instances]:
        """A batch at a time, of pictures of one canvas: then each has the result that it has alone."""
        found: list[Instances] = []
        batch: list[NDArray[np.uint8]] = []
        for picture in map(to_rgb, pictures):
            fits = not batch or self.canvas(*batch[0].shape[:2]) == self.canvas(*picture.shape[:2])
            if not fits or len(batch) == _BATCH:
                found += self._segment(batch)
                batch = []
            batch.append(picture)
        return found + (self._segment(batch) if batch else [])

    def _segment(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Instances]:
        ticket = self.submit(pictures)
        self.wait(ticket)
        return [self.finish(ticket, k) for k in range(len(pictures))]

    def canvas(self, height: int, width: int) -> tuple[int, int]:
        """Input size of the network for a picture: pictures of one canvas make a batch."""
        return geometry(height, width, self.spec.input).canvas

    def warm_up(self, height: int = 720, width: int = 1280, *, max_batch: int = 1) -> None:
        """Run once, so that the first real frame does not pay for memory and kernels.

        On CUDA with each batch size that gets a graph: largest first, the smaller ones then fit its memory.
        """
        picture = np.zeros((height, width, 3), dtype=np.uint8)
        graphs = {graph_size(count) or 1 for count in range(1, max_batch + 1)}
        for count in sorted(graphs, reverse=True) if self.device.type == "cuda" else (1,):
            ticket = self.submit([picture] * count)
            self.wait(ticket)
            self.finish(ticket, 0)

    def submit(self, pictures: Sequence[NDArray[np.uint8]]) -> BatchTicket:
        """Start a batch of pictures, each (H, W, 3) uint8 RGB; returns before it is done.

        A CPU takes two batches at a time; a third waits until the first is through the network. The pictures
        must stay as they are until the batch was waited for. Smaller canvases are padded to the largest of
        the batch, as in the published code. Raises ValueError for what is no picture.
        """
        for picture in pictures:
            check_picture(picture)
        sizes = self._sizes(pictures)
        preparation = self._preparer.start(pictures, sizes)
        computing = self._streams.launch(partial(self._compute, preparation))
        return BatchTicket(sizes, computing, [None] * len(sizes))

    @torch.inference_mode()
    def _compute(self, preparation: Preparation) -> Computing:
        self._tell("preprocess", preparation.wait())
        started = time.monotonic()
        with self._streams.uploading():
            images = preparation.build()
        with self._streams.computing(images):
            begun = self._streams.mark()
            output = self._network(images)
            candidates = self._postprocessor.select(output)
            ready = self._streams.mark()
        if ready is None:
            self._tell("forward", time.monotonic() - started)
        return Computing(output, candidates, begun, ready)

    @torch.inference_mode()
    def wait(self, ticket: BatchTicket) -> None:
        """Return when the device is done with a batch and its instances are in host memory.

        Lets go of the device's memory, also if it raises; a batch is waited for once.
        """
        launched, ticket.computing = ticket.computing, None
        assert launched is not None, "a batch is waited for once"
        computing = launched.result()
        if computing.ready is not None:
            # The host needs the output for what follows: that wait is not the time of the post-processing.
            computing.ready.synchronize()
        started = time.monotonic()
        output = computing.output
        with self._streams.finishing(computing.ready, [*output.class_logits, *output.mask_tensors()]):
            ticket.found = []
            for part, ranked in self._postprocessor.rank(output, computing.candidates):
                ticket.found += self._collect(self._postprocessor, ranked, ticket.sizes[part])
        self._tell("postprocess", time.monotonic() - started)
        if computing.begun is not None and computing.ready is not None:
            self._tell("forward", computing.begun.elapsed_time(computing.ready) / 1000)

    def finish(self, ticket: BatchTicket, k: int) -> Instances:
        """The instances of picture ``k`` of a batch that was waited for, at source resolution.

        Once for each picture; different ones may be finished by different threads at the same time.
        """
        started = time.monotonic()
        found, ticket.found[k] = ticket.found[k], None
        assert found is not None, "a picture is finished once, after its batch was waited for"
        instances = make_instances(found, ticket.sizes[k], classes=self.classes)
        self._tell("finish", time.monotonic() - started)
        return instances

    def _sizes(self, pictures: Sequence[NDArray[np.uint8]]) -> tuple[Geometry, ...]:
        """The sizes that each picture goes through; all stand on the largest canvas."""
        alone = [geometry(picture.shape[0], picture.shape[1], self.spec.input) for picture in pictures]
        canvas = (max(s.canvas[0] for s in alone), max(s.canvas[1] for s in alone))
        return tuple(replace(s, canvas=canvas) for s in alone)

    def _tell(self, stage: str, seconds: float) -> None:
        if self._meter is not None:
            self._meter.stage(stage, seconds)


def _class_ids(wanted: Sequence[str] | None, known: Sequence[str]) -> list[int] | None:
    if wanted is None:
        return None
    if not wanted:
        raise ConfigError("classes: an empty list; allowed are at least one name, or None for all")
    for name in wanted:
        if name not in known:
            raise ConfigError(f"class {name!r}{hint(name, known)}: this model knows {', '.join(known)}")
    return [known.index(name) for name in wanted]
