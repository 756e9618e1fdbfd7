"""Self-describing weights files: tensors and a :class:`ModelSpec` in one safetensors file."""

import json
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from streamseg.config import describe, hint
from streamseg.errors import OutputError, WeightsError
from streamseg.files import complete_file
from streamseg.models.nets.detector import Detector
from streamseg.models.spec import ModelSpec
from streamseg.models.weights.tensors import TensorError, check_tensors
from streamseg.models.weights.zoo import official_models

FORMAT = "streamseg-1"
_TORCH = (b"PK\x03\x04", b"\x80\x02")
"""How files of PyTorch begin, new ones (a zip) and old ones (a pickle)."""
_TORCH_ENDINGS = frozenset({".pth", ".pt", ".ckpt", ".pkl"})
COCO_START = "nanodet_plus_m_coco"
"""A file beside the bundled weights that is no model, but what training starts from."""


def bundled_weights() -> dict[str, Path]:
    """Names and paths of the weights that come with the package."""
    found = {path.stem: path for path in sorted(weights_folder().glob("*.safetensors"))}
    found.pop(COCO_START)
    return found


def weights_folder() -> Path:
    """Where the package's weights are."""
    return Path(str(files("streamseg"))) / "weights"


def find_weights(name: str) -> Path:
    """A bundled name or a path to a ``.safetensors`` file. Raises WeightsError."""
    bundled = bundled_weights()
    path = bundled.get(name, Path(name))
    if path.is_file():
        return path
    if path.is_dir():
        raise WeightsError(f"weights {name!r}: is a folder, not a .safetensors file")
    if name in official_models():
        raise WeightsError(
            f"weights {name!r}: do not come with the package; get the official checkpoint and make a file "
            f"of it: streamseg convert CHECKPOINT.pth {name}.safetensors"
        )
    beside = [str(one) for one in path.parent.glob("*.safetensors")] if path.suffix else []
    meant = hint(name, [*bundled, *official_models(), *beside])
    raise WeightsError(
        f"weights {name!r}{meant}: no such file, and not one of the bundled weights ({', '.join(bundled)})"
    )


def save_weights(detector: Detector, path: Path, *, half: bool = False, notes: dict[str, str]) -> None:
    """Write a detector; ``half`` stores fp16. ``notes`` go into the metadata beside the spec.

    The file appears under its name when it is complete. Raises WeightsError for a value that fp16 cannot
    hold, OutputError if the file cannot be written.
    """
    state = {
        name: (_half(path, name, tensor) if half and tensor.is_floating_point() else tensor)
        .contiguous()
        .cpu()
        for name, tensor in detector.state_dict().items()
    }
    metadata = {"format": FORMAT, "spec": detector.spec.model_dump_json(), "notes": json.dumps(notes)}
    try:
        with complete_file(path) as partial:
            partial.touch()
            mode = partial.stat().st_mode
            save_file(state, partial, metadata=metadata)
            partial.chmod(mode)  # safetensors leaves a file that only its owner can read
    except (SafetensorError, OSError) as error:
        raise OutputError(f"{path}: cannot be written ({error})") from error


def _half(path: Path, name: str, tensor: torch.Tensor) -> torch.Tensor:
    if _overflows(tensor):
        raise WeightsError(f"{path}: tensor {name} holds {tensor.abs().max():.3g}, too large for fp16")
    return tensor.half()


def too_large_for_half(detector: Detector) -> str | None:
    """The first tensor with a value that fp16 cannot hold, if there is one."""
    return next((name for name, tensor in detector.state_dict().items() if _overflows(tensor)), None)


def _overflows(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() and bool(tensor.half().isinf().any() and not tensor.isinf().any())


def read_spec(path: Path) -> ModelSpec:
    """Read what a weights file says of itself, without its tensors. Raises WeightsError."""
    return _parse_spec(path, _read(path, tensors=False)[0])


def load_detector(path: Path) -> Detector:
    """Build the detector that a file describes, in float32 and evaluation mode.

    Nothing in the file is executed. Raises WeightsError that names the first thing that is wrong.
    """
    metadata, state = _read(path, tensors=True)
    detector = Detector(_parse_spec(path, metadata))
    try:
        check_tensors(state, detector.state_dict())
    except TensorError as error:
        raise WeightsError(f"{path}: {error}") from error
    detector.load_state_dict(state)
    return detector.eval()


def _read(path: Path, *, tensors: bool) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            names = file.keys() if tensors else ()
            return metadata, {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file{_advice(path, error)}") from error


def _advice(path: Path, error: Exception) -> str:
    """What to do with a file of another kind, told by its content or its name."""
    with suppress(OSError), path.open("rb") as file:
        if file.read(len(_TORCH[0])).startswith(_TORCH) or path.suffix.lower() in _TORCH_ENDINGS:
            return (
                " but a PyTorch checkpoint; if it is of a SOLO model, make a weights file of it: "
                f"streamseg convert {path} {path.with_suffix('.safetensors')}"
            )
    match path.suffix.lower():
        case ".onnx":
            return " but an ONNX file; give the weights that it was exported from"
        case ".yaml" | ".yml":
            return " but a configuration, which goes to -c/--config (a run) or to streamseg train"
        case _:
            return f" ({error})"


def _parse_spec(path: Path, metadata: dict[str, str]) -> ModelSpec:
    if metadata.get("format") != FORMAT:
        raise WeightsError(
            f"{path}: its metadata says format {metadata.get('format')!r}, not {FORMAT!r}: it is not of "
            "streamseg"
        )
    try:
        return ModelSpec.model_validate_json(metadata.get("spec", ""))
    except ValidationError as error:
        raise WeightsError(
            f"{path}: its model description is not valid: {describe(error, ModelSpec)}"
        ) from error
