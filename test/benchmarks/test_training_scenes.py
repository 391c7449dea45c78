"""The picture of training scenes: bone in red, the posed model in blue, also where there is no spine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from training_shards import make_shards

from benchmarks.training_scenes import write_samples_picture
from end2reg_ros.errors import TrainingError


def test_a_picture_of_samples(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "shards", views=3, spineless=1)
    write_samples_picture(shards, tmp_path / "samples.png", count=4, tile_px=60)
    pixels = np.asarray(Image.open(tmp_path / "samples.png").convert("RGB")).astype(int)
    red = (pixels[..., 0] > 180) & (pixels[..., 1] < 110) & (pixels[..., 2] < 110)
    blue = (pixels[..., 2] > 110) & (pixels[..., 0] < 90)
    assert red.sum() > 40 and blue.sum() > 40
    with pytest.raises(TrainingError, match="no training scenes"):
        write_samples_picture(tmp_path, tmp_path / "x.png")
