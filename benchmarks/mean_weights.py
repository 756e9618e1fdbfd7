"""The mean of some weights of one architecture, as one file.

python benchmarks/mean_weights.py A.safetensors B.safetensors ... OUT.safetensors [--canvas HEIGHT WIDTH]

Weights of neighbouring parts of one training lie in one valley: their mean is often better than each of them
(Wortsman et al. 2022, "Model soups"). All but the numbers is that of the last file; --canvas changes the size
of the pictures that it is used in.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("weights", type=Path, nargs="+")
    options.add_argument("out", type=Path)
    options.add_argument("--canvas", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"))
    chosen = options.parse_args()
    files = [read(path) for path in chosen.weights]
    tensors, metadata = files[-1]
    if any(other.keys() != tensors.keys() for other, _ in files):
        raise SystemExit("the files hold different tensors")
    if chosen.canvas:
        spec = json.loads(metadata["spec"])
        spec["input"]["canvas"] = chosen.canvas
        metadata["spec"] = json.dumps(spec)
    save_file(
        {name: mean([other[name] for other, _ in files]) for name in tensors}, chosen.out, metadata=metadata
    )


def read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def mean(same: list[torch.Tensor]) -> torch.Tensor:
    if not same[0].is_floating_point():
        return same[-1]
    return torch.stack([tensor.float() for tensor in same]).mean(dim=0).to(same[-1].dtype)


if __name__ == "__main__":
    main()
