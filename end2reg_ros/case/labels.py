"""CT label maps (NIfTI) to vertebra surfaces at sub-voxel accuracy."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from end2reg_ros.case.levels import sort_levels
from end2reg_ros.errors import CaseError

Array = NDArray[np.float64]

#: VerSe (Sekuboyina et al. 2021): C1-C7 = 1-7, T1-T12 = 8-19, L1-L6 = 20-25, T13 = 28.
VERSE: dict[str, int] = {
    **{f"C{i}": i for i in range(1, 8)},
    **{f"T{i}": i + 7 for i in range(1, 13)},
    **{f"L{i}": i + 19 for i in range(1, 7)},
    "T13": 28,
}
#: TotalSegmentator v2, task "total": S1 = 26, L5-L1 = 27-31, T12-T1 = 32-43, C7-C1 = 44-50.
TOTALSEGMENTATOR: dict[str, int] = {
    "S1": 26,
    **{f"L{i}": 32 - i for i in range(1, 6)},
    **{f"T{i}": 44 - i for i in range(1, 13)},
    **{f"C{i}": 51 - i for i in range(1, 8)},
}
#: TotalSegmentator v1: L5-L1 = 18-22, T12-T1 = 23-34, C7-C1 = 35-41.
TOTALSEGMENTATOR_V1: dict[str, int] = {
    **{f"L{i}": 23 - i for i in range(1, 6)},
    **{f"T{i}": 35 - i for i in range(1, 13)},
    **{f"C{i}": 42 - i for i in range(1, 8)},
}
NUMBERINGS: dict[str, dict[str, int]] = {
    "verse": VERSE,
    "totalsegmentator": TOTALSEGMENTATOR,
    "totalsegmentator_v1": TOTALSEGMENTATOR_V1,
}
_VERSE_TOP, _V1_TOP = 28, 104  # largest numbers

_LUMBAR = ("L1", "L2", "L3", "L4", "L5", "L6")


@dataclass(frozen=True)
class LabelMap:
    """A label map and where its voxels lie.

    Attributes:
        path: the file.
        values: (I, J, K) whole numbers; 0 is background.
        affine: (4, 4), voxel indices to CT RAS millimetres.
        counts: voxels of every label that occurs.
    """

    path: Path
    values: NDArray[np.int32]
    affine: Array
    counts: dict[int, int] = field(default_factory=dict)


def read_label_map(path: str | Path) -> LabelMap:
    """A NIfTI label map.

    Raises:
        CaseError: missing or unreadable, not three-dimensional, not whole numbers, empty, sheared, or without an
            orientation (then left and right cannot be known).
    """
    data, affine = _read_nifti(Path(path))
    if data.dtype.kind not in "iu" and not (np.isfinite(data).all() and np.array_equal(data, np.round(data))):
        raise CaseError(f"{path}: not a label map: its values are not whole numbers")
    if data.min() < 0:
        raise CaseError(f"{path}: not a label map: it has values below zero (a CT goes to --ct)")
    if data.max() > 100_000:
        raise CaseError(f"{path}: not a label map: it has values up to {data.max():.0f}")
    values = data.astype(np.int32, copy=False)
    voxels = np.bincount(values.ravel())
    counts = {int(n): int(voxels[n]) for n in np.flatnonzero(voxels) if n != 0}
    if not counts:
        raise CaseError(f"{path}: the label map is empty (all voxels are 0)")
    return LabelMap(Path(path), values, affine, counts)


def choose_labels(
    labels: LabelMap,
    numbering: str = "auto",
    numbers: dict[str, int] | None = None,
    levels: tuple[str, ...] = (),
) -> dict[str, int]:
    """Level -> label number, cranial to caudal, for the levels to be made.

    Args:
        numbering: one of ``NUMBERINGS``, or ``auto`` (see ``guess_numbering``); the lumbar levels that occur are
            taken.
        numbers: label numbers given by hand; then exactly these are taken and ``numbering`` is not looked at.
        levels: only these levels, lumbar or not.

    Raises:
        CaseError: a number that does not occur, no lumbar vertebra under the numbering, or one that cannot be guessed.
    """
    present = ", ".join(str(n) for n in sorted(labels.counts))
    if numbers:
        for level, number in numbers.items():
            if number not in labels.counts:
                raise CaseError(f"{labels.path}: no label {number} for {level}; it has {present}")
        return {level: numbers[level] for level in sort_levels(numbers)}
    if numbering == "auto":
        numbering = guess_numbering(labels)
    if numbering not in NUMBERINGS:
        raise CaseError(f"{numbering}: unknown numbering (known: auto, {', '.join(NUMBERINGS)})")
    known = NUMBERINGS[numbering]
    present = ", ".join(_name_label(n, known) for n in sorted(labels.counts))
    for level in levels:
        if known.get(level) not in labels.counts:
            raise CaseError(f"{labels.path}: no label for {level} in {numbering} numbering; it has {present}")
    if levels:
        return {level: known[level] for level in sort_levels(levels)}
    found = _lumbar(labels, numbering)
    if not found:
        raise CaseError(
            f"{labels.path}: no lumbar vertebra in {numbering} numbering; it has {present}; "
            "give numbers, as in --label-numbers L1=1 L2=2"
        )
    return found


def guess_numbering(labels: LabelMap) -> str:
    """The numbering of a label map: VerSe where no label is above 28, else TotalSegmentator v2.

    VerSe counts towards the feet and TotalSegmentator towards the head, so v1 labels taken for VerSe run upside down,
    which validation refuses. What order cannot show is refused here.

    Raises:
        CaseError: the numbers are lumbar levels in another numbering too.
    """
    top = max(labels.counts)
    guess = "verse" if top <= _VERSE_TOP else "totalsegmentator"
    # TotalSegmentator v1 has L5-L1 at 18-22 and mid-thoracic levels at 27-31, where v2 has L5-L1.
    other = "totalsegmentator" if top <= _VERSE_TOP else "totalsegmentator_v1" if top <= _V1_TOP else ""
    if other and _lumbar(labels, guess) and _lumbar(labels, other):
        texts = []
        for name in (guess, other):
            numbers = ", ".join(str(n) for n in sorted(_lumbar(labels, name).values()))
            texts.append(f"lumbar levels are {numbers} in {name} numbering")
        raise CaseError(f"{labels.path}: {', '.join(texts)}: say which with --numbering")
    return guess


def check_ct(path: str | Path, labels: LabelMap, numbers: dict[str, int]) -> None:
    """See that a CT belongs to a label map: the same grid, and bone where the labels say so.

    Raises:
        CaseError: another grid, or a vertebra that is no brighter than the tissue within 5 mm around it.
    """
    from scipy.ndimage import binary_dilation, find_objects

    ct, affine = _read_nifti(Path(path))
    if ct.shape != labels.values.shape or not np.allclose(affine, labels.affine, atol=1e-3):
        raise CaseError(f"{path}: its grid differs from that of {labels.path.name} (shape or affine)")
    spacing = np.linalg.norm(labels.affine[:3, :3], axis=0)
    reach = max(int(np.ceil(5.0 / spacing.min())), 1)
    for level, number in numbers.items():
        (found,) = find_objects((labels.values == number).astype(np.uint8))
        box = tuple(slice(max(side.start - reach - 1, 0), side.stop + reach + 1) for side in found)
        inside = labels.values[box] == number
        around = binary_dilation(inside, iterations=reach) & (labels.values[box] == 0)
        bone, tissue = float(np.median(ct[box][inside])), float(np.median(ct[box][around]))
        if not bone > tissue:
            raise CaseError(
                f"{path}: no bone where {labels.path.name} has {level}: median {bone:.0f} HU inside, {tissue:.0f} around"
            )


def _read_nifti(path: Path) -> tuple[Array, Array]:
    """Data (I, J, K) of an image and its affine to RAS millimetres."""
    import nibabel as nib

    if not path.is_file():
        raise CaseError(f"{path}: no such file")
    try:
        image: Any = nib.load(path)
        shape = image.shape
        if len(shape) == 4 and shape[3] == 1:
            data = np.asarray(image.dataobj)[..., 0]
        elif len(shape) == 3:
            data = np.asarray(image.dataobj)
        else:
            size = " x ".join(str(n) for n in shape)
            raise CaseError(f"{path}: {len(shape)}-D ({size}); a label map or CT is one 3-D volume")
    except CaseError:
        raise
    # nibabel raises its own errors, but also EOFError, zlib.error, OSError ... for a broken file.
    except Exception as error:
        raise CaseError(f"{path}: not a readable NIfTI file ({type(error).__name__})") from None
    if not isinstance(image, nib.Nifti1Image):
        raise CaseError(f"{path}: not a NIfTI file")
    if data.dtype.kind not in "iuf":
        raise CaseError(f"{path}: its voxels are not single numbers (a colour image?)")
    if data.size == 0:
        raise CaseError(f"{path}: has no voxels ({' x '.join(str(n) for n in data.shape)})")
    header: Any = image.header
    if int(header["sform_code"]) == 0 and int(header["qform_code"]) == 0:
        raise CaseError(
            f"{path}: no orientation (sform and qform codes are 0): left and right cannot be known"
        )
    factor = {"meter": 1000.0, "micron": 0.001}.get(header.get_xyzt_units()[0], 1.0)
    affine = np.diag([factor, factor, factor, 1.0]) @ np.asarray(image.affine, dtype=np.float64)
    axes = affine[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    if not np.isfinite(affine).all() or spacing.min() <= 0:
        raise CaseError(f"{path}: its affine is not a placement of voxels")
    cosines = (axes / spacing).T @ (axes / spacing) - np.eye(3)
    if np.abs(cosines).max() > 0.01:
        raise CaseError(f"{path}: sheared voxels (a tilted gantry); resample it to a rectangular grid first")
    return data, affine


def _lumbar(labels: LabelMap, numbering: str) -> dict[str, int]:
    known = NUMBERINGS[numbering]
    return {level: known[level] for level in _LUMBAR if known.get(level) in labels.counts}


def _name_label(number: int, known: dict[str, int]) -> str:
    names = {n: level for level, n in known.items()}
    return f"{number} ({names[number]})" if number in names else str(number)
