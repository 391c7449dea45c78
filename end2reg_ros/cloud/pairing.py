"""Depth and colour images of equal stamps; what finds no partner is counted, never guessed."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from end2reg_ros.cloud.messages import ImageLike, stamp_ns


@dataclass(frozen=True)
class ImagePair:
    """A depth image and the colour image of the same stamp."""

    depth: ImageLike
    colour: ImageLike


class ImagePairer:
    """Pairs two streams by equal stamps, in whatever order the two images arrive.

    A pair makes all that waited before it on either side late: those are dropped and counted, as is the
    oldest waiting image once ``capacity`` wait on one side.

    Attributes:
        paired: pairs given out.
        unpaired_depth, unpaired_colour: images dropped without a partner.
    """

    def __init__(self, capacity: int = 4) -> None:
        self.paired = 0
        self.unpaired_depth = 0
        self.unpaired_colour = 0
        self._capacity = capacity
        self._depth: OrderedDict[int, ImageLike] = OrderedDict()
        self._colour: OrderedDict[int, ImageLike] = OrderedDict()

    def add_depth(self, image: ImageLike) -> ImagePair | None:
        """The pair that this depth image completes, or None."""
        colour = self._colour.get(stamp_ns(image))
        if colour is not None:
            return self._complete(image, colour)
        self.unpaired_depth += self._store(self._depth, image)
        return None

    def add_colour(self, image: ImageLike) -> ImagePair | None:
        """The pair that this colour image completes, or None."""
        depth = self._depth.get(stamp_ns(image))
        if depth is not None:
            return self._complete(depth, image)
        self.unpaired_colour += self._store(self._colour, image)
        return None

    def _store(self, waiting: OrderedDict[int, ImageLike], image: ImageLike) -> int:
        """Images dropped to make room: 0 or 1."""
        replaced = waiting.pop(stamp_ns(image), None) is not None
        waiting[stamp_ns(image)] = image
        if len(waiting) > self._capacity:
            waiting.popitem(last=False)
            return 1
        return int(replaced)

    def _complete(self, depth: ImageLike, colour: ImageLike) -> ImagePair:
        stamp = stamp_ns(depth)
        self.paired += 1
        self.unpaired_depth += self._forget(self._depth, stamp)
        self.unpaired_colour += self._forget(self._colour, stamp)
        return ImagePair(depth, colour)

    @staticmethod
    def _forget(waiting: OrderedDict[int, ImageLike], stamp: int) -> int:
        """Drop all up to the stamp; how many of them had no partner."""
        late = [other for other in waiting if other <= stamp]
        for other in late:
            del waiting[other]
        return sum(other != stamp for other in late)
