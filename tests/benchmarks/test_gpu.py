"""The benchmark that is run where there is a card also runs on a CPU, and its verdicts can be trusted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import gpu  # noqa: E402
import gpu_checks  # noqa: E402
import gpu_tables  # noqa: E402


@pytest.mark.timeout(300)
def test_it_runs_on_a_cpu(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    command = [sys.executable, "benchmarks/gpu.py", "--device", "cpu", "--quick", "--out", str(out)]
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert report == json.loads(done.stdout)
    verdicts = {line["check"]: line["ok"] for line in report["checks"]}
    assert False not in verdicts.values()
    assert verdicts["bf16, demo clip"]
    assert verdicts["run lengths of the same logits"]
    assert verdicts["CUDA graphs"] is None
    assert {row["model"] for row in report["models"]} == {"demo", *gpu.QUICK_MODELS}
    assert all(row["engine_frames_per_second"] > 0 for row in report["models"])
    assert all(row["lines"] == row["frames"] > 0 for row in report["program"])


def test_a_network_that_computes_something_else_is_wrong() -> None:
    conv = gpu_checks.folded_copy(gpu_checks.load_detector(gpu_checks.find_weights("demo")))
    with torch.inference_mode():
        output = conv(torch.randn(1, 3, 352, 480))
        tensors = gpu_checks.batch_tensors(output)
        other = gpu_checks.with_tensors(output, [*tensors[:-1], tensors[-1] * 1.01])
    assert gpu_checks.compare("same", output, output, limit=1e-3).ok
    assert gpu_checks.compare("other", other, output, limit=1e-3).ok is False


def test_a_check_that_breaks_is_a_false_line() -> None:
    def breaks(*_: object) -> list[gpu_checks.Line]:
        raise RuntimeError("CUDA error: an illegal memory access")

    (line,) = gpu.run_check(breaks, torch.device("cpu"), True)
    assert line.ok is False
    assert "illegal memory access" in line.found


@pytest.mark.parametrize(
    ("spans", "share"),
    [([], 0.0), ([(0, 1), (3, 4)], 0.5), ([(0, 4), (1, 2), (3, 8)], 1.0), ([(2, 4), (6, 8)], 0.667)],
)
def test_busy_share(spans: list[tuple[float, float]], share: float) -> None:
    assert gpu_tables.covered(spans) == share
