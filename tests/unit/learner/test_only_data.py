"""What is loaded of a checkpoint is data: nothing in a file of it is ever run."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from learner._sharded import FORCE_DATA, CheckpointMismatch, only_data, random_states


class Planted:
    """A pickle of it runs a command when it is read."""

    def __init__(self, touched: Path) -> None:
        self._touched = touched

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self._touched}",)


def test_code_in_a_file_is_refused_and_never_run_even_where_a_library_would_run_it(tmp_path: Path) -> None:
    touched, file = tmp_path / "touched", tmp_path / "states.pt"
    torch.save({"step": 3, "more": Planted(touched)}, file)
    with pytest.raises(CheckpointMismatch, match=r"wants \w+\.system built"), only_data():
        torch.load(file, weights_only=False)
    assert not touched.exists()
    torch.load(file, weights_only=False)
    assert touched.exists(), "outside, it runs: so this file would have shown it"


def test_what_a_checkpoint_holds_is_read(tmp_path: Path) -> None:
    from deepspeed.runtime.fp16.loss_scaler import LossScaler

    saved = {"tensors": {"a": torch.ones(3)}, "scaler": LossScaler(scale=2), "random": random_states()}
    torch.save(saved, tmp_path / "states.pt")
    with only_data():
        found = torch.load(tmp_path / "states.pt", weights_only=False)
    assert found["scaler"].cur_scale == 2
    assert torch.equal(found["tensors"]["a"], torch.ones(3))
    assert np.array_equal(found["random"]["numpy"][1].numpy(), saved["random"]["numpy"][1].numpy())


def test_what_was_set_before_is_set_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FORCE_DATA, "0")
    with only_data():
        assert os.environ[FORCE_DATA] == "1"
    assert os.environ[FORCE_DATA] == "0"
