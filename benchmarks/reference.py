"""Speed of the reference implementation (mmdetection) beside ours, in one process and by turns.

    python benchmarks/reference.py [--models NAME ...] [--rounds 5]

Runs in an environment of its own, which this makes:

    python3.11 -m venv /tmp/mmdet
    /tmp/mmdet/bin/pip install "setuptools<80" wheel torch torchvision mmdet==3.3.0 mmengine==0.10.7
    /tmp/mmdet/bin/pip install --no-build-isolation mmcv-lite==2.1.0
    /tmp/mmdet/bin/pip install msgspec pydantic safetensors
    /tmp/mmdet/bin/pip install --no-deps --editable .

mmcv-lite has none of the compiled operators; SOLO needs none, so they are replaced by classes that
cannot be made. A picture of 640 x 480, fp32 on the CPU, random weights, and for both sides the head
outputs of `workload.py`, with 200 candidates of which 100 become instances:

* network: to the raw head outputs. Those of the reference's SOLO are the logits of all cells' masks,
  ours the features that they are made of;
* post-processing: from there to the masks of the kept instances at source resolution. In the reference
  that is what a head's forward does only in evaluation mode (sigmoid, resizing, points NMS), and
  `predict_by_feat`, which is also given by itself.

Writes medians, and the medians of the rounds' ratios (ours to theirs), to
benchmarks/results/reference.json.
"""

import argparse
import copy
import importlib.abc
import importlib.machinery
import itertools
import json
import math
import sys
import types
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from machine import describe_machine
from memory import peak_mb
from models import CANDIDATES, MODELS, RESULTS, SOURCE, Bench, by_turns, clock, set_threads
from torch import Tensor, nn
from torch.nn import functional as F

from streamseg.models.input_size import geometry
from streamseg.models.nets.decoupled import DecoupledOutput
from streamseg.models.nets.head import HeadOutput
from streamseg.models.nets.layers import double
from streamseg.models.nets.solo import SoloOutput
from streamseg.models.nets.solov2 import SoloV2Output
from streamseg.models.weights.zoo import official_models, read_model

CONFIGS = {
    "solo_r50": "solo/solo_r50_fpn_3x_coco.py",
    "decoupled_solo_r50": "solo/decoupled-solo_r50_fpn_3x_coco.py",
    "decoupled_solo_light_r50": "solo/decoupled-solo-light_r50_fpn_3x_coco.py",
    "solov2_r50": "solov2/solov2_r50_fpn_ms-3x_coco.py",
    "solov2_light_448_r18": "solov2/solov2-light_r18_fpn_ms-3x_coco.py",
}


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--models", nargs="+", default=MODELS)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--threads", type=int, help="of torch; with 1, CPU time is measured")
    options.add_argument("--out", type=Path, default=RESULTS / "reference.json")
    chosen = options.parse_args()
    set_threads(chosen.threads)
    warnings.simplefilter("ignore")
    sys.meta_path.insert(0, _MissingOperators())
    entries = []
    for name in chosen.models:
        entries.append(measure(name, chosen.rounds))
        print(json.dumps(entries[-1]), flush=True)
    report = {
        "machine": describe_machine(),
        "versions": versions(),
        "clock": clock().__name__,
        "precision": "float32",
        "source": SOURCE,
        "candidates": CANDIDATES,
        "rounds": chosen.rounds,
        "models": entries,
    }
    chosen.out.write_text(json.dumps(report, indent=2) + "\n")
    print(format_table(entries))


class _MissingOperators(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `mmcv.ops` and all below it: modules in which every name is a class that cannot be made."""

    def find_spec(self, fullname: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        if fullname == "mmcv.ops" or fullname.startswith("mmcv.ops."):
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Operators(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


class _Operators(types.ModuleType):
    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(*_: object, **__: object) -> None:
            raise RuntimeError(f"mmcv-lite has no {name}")

        return type(name, (nn.Module,), {"__init__": refuse})


def versions() -> dict[str, str]:
    import mmcv  # noqa: PLC0415
    import mmdet  # noqa: PLC0415
    import mmengine  # noqa: PLC0415

    return {module.__name__: module.__version__ for module in (mmdet, mmcv, mmengine)}


class Reference:
    """The reference's model with random weights, and head outputs of a known load."""

    def __init__(self, name: str, output: HeadOutput, canvas: tuple[int, int]) -> None:
        import mmdet  # noqa: PLC0415
        from mmdet.registry import MODELS as REGISTRY  # noqa: PLC0415
        from mmdet.utils import register_all_modules  # noqa: PLC0415
        from mmengine.config import Config  # noqa: PLC0415

        register_all_modules()
        config = Config.fromfile(Path(mmdet.__file__).parent / ".mim" / "configs" / CONFIGS[name]).model
        config.backbone.init_cfg = None  # no download
        self._detector = REGISTRY.build(config).eval()
        self._images = torch.randn(1, 3, *canvas)
        resized = geometry(*SOURCE, read_model(official_models()[name]).input).resized
        self._sizes = [{"img_shape": resized, "ori_shape": SOURCE}]
        self._output = output
        self._logits = [x.contiguous() for x in output.class_logits]
        # Another head, which is given the raw outputs in place of computing them.
        self._finisher = copy.deepcopy(self._detector.mask_head)
        if isinstance(output, SoloOutput):
            self._give({"conv_mask_list": _mask_logits(output)})
        elif isinstance(output, DecoupledOutput):
            masks = {"conv_mask_list_x": output.mask_x, "conv_mask_list_y": output.mask_y}
            self._give({name: [x.contiguous() for x in levels] for name, levels in masks.items()})
        sides = [(math.ceil(canvas[0] / s), math.ceil(canvas[1] / s)) for s in (4, 8, 16, 32, 64)]
        self._blank = [torch.zeros(1, 1, *side) for side in sides]
        self._finished: tuple = ()

    def _give(self, masks: dict[str, list[Tensor]]) -> None:
        head = self._finisher
        for tower in ("mask_convs", "mask_convs_x", "mask_convs_y", "cls_convs"):
            if hasattr(head, tower):
                setattr(head, tower, nn.ModuleList())
        for name, levels in masks.items():
            setattr(head, name, nn.ModuleList(_Given([x]) for x in levels))
        head.conv_cls = _Given(self._logits)

    @torch.no_grad()
    def network(self) -> None:
        """To the raw outputs: in training mode forward ends there, and no layer of the head differs."""
        self._detector.mask_head.training = True
        self._detector.mask_head(self._detector.extract_feat(self._images))

    @torch.no_grad()
    def finish_forward(self) -> None:
        if isinstance(self._output, SoloV2Output):  # its forward ends with the raw outputs
            kernels = [x.contiguous() for x in self._output.kernels]
            self._finished = (kernels, list(self._logits), self._output.mask_feature.contiguous())
        else:
            self._finished = self._finisher(self._blank)

    @torch.no_grad()
    def predict_by_feat(self) -> int:
        """Returns the number of instances."""
        finished, self._finished = self._finished, ()
        return len(self._finisher.predict_by_feat(*finished, self._sizes)[0].scores)

    def postprocessing(self) -> int:
        self.finish_forward()
        return self.predict_by_feat()


class _Given(nn.Module):
    """Returns the given tensors by turns."""

    def __init__(self, tensors: list[Tensor]) -> None:
        super().__init__()
        self._tensors = itertools.cycle(tensors)

    def forward(self, _: Tensor) -> Tensor:
        return next(self._tensors)


def _mask_logits(output: SoloOutput) -> list[Tensor]:
    """Those of all cells, which the reference's SOLO computes: (1, S*S, h, w) per level."""
    with torch.no_grad():
        return [
            F.conv2d(double(features).contiguous(), weights, biases)
            for features, weights, biases in zip(output.features, output.weights, output.biases, strict=True)
        ]


def measure(name: str, rounds: int) -> dict:
    ours = Bench.build(name, "cpu", "fp32")
    theirs = Reference(name, ours.output, ours.canvas)
    images = ours.input()
    stages: dict[str, Callable[[], object]] = {
        "network": lambda: ours.network(images),
        "reference network": theirs.network,
        "postprocessing": ours.postprocessing,
        "reference finish": theirs.finish_forward,
        "reference predict_by_feat": theirs.predict_by_feat,
    }
    for stage in stages.values():
        stage()  # warm-up
    times = {stage: np.array(t) * 1000 for stage, t in by_turns(stages, rounds).items()}
    we = {key: times[key] for key in ("network", "postprocessing")}
    they = {key: times[f"reference {key}"] for key in ("network", "predict_by_feat")}
    they["postprocessing"] = times["reference finish"] + they["predict_by_feat"]
    for side in (we, they):
        side["total"] = side["network"] + side["postprocessing"]
    cpu = torch.device("cpu")
    return {
        "model": name,
        "input": ours.canvas,
        "instances": ours.postprocessing(),
        "reference_instances": theirs.postprocessing(),
        "ms": medians(we),
        "reference_ms": medians(they),
        "ratio": {
            "network": ratio(we["network"], they["network"]),
            "postprocessing": ratio(we["postprocessing"], they["postprocessing"]),
            "postprocessing_to_predict_by_feat": ratio(we["postprocessing"], they["predict_by_feat"]),
            "total": ratio(we["total"], they["total"]),
        },
        "postprocessing_peak_mb": round(peak_mb(ours.postprocessing, cpu)),
        "reference_postprocessing_peak_mb": round(peak_mb(theirs.postprocessing, cpu)),
    }


def medians(times: dict[str, np.ndarray]) -> dict[str, float]:
    return {stage: round(float(np.median(t)), 1) for stage, t in times.items()}


def ratio(ours: np.ndarray, theirs: np.ndarray) -> float:
    return round(float(np.median(ours / theirs)), 3)


def format_table(entries: Sequence[dict]) -> str:
    head = ["model", "input", "network ms", "post-processing ms", "total ms", "peak MB post-processing"]
    rows = [head, ["---"] * len(head)]
    for e in entries:
        us, them, r = e["ms"], e["reference_ms"], e["ratio"]
        pairs = [f"{us[k]:.0f} / {them[k]:.0f} = {r[k]:.2f}" for k in ("network", "postprocessing", "total")]
        memory = f"{e['postprocessing_peak_mb']} / {e['reference_postprocessing_peak_mb']}"
        rows.append([e["model"], "x".join(map(str, reversed(e["input"]))), *pairs, memory])
    return "ours / reference = ratio\n\n" + "\n".join("| " + " | ".join(row) + " |" for row in rows)


if __name__ == "__main__":
    main()
