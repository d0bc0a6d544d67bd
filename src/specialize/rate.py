"""The current speed of long work."""

import time
from collections import deque


class Rate:
    """Units per second over the last seconds of work.

    Args:
        window: length of the period that counts, in seconds.
    """

    def __init__(self, window: float) -> None:
        self.window = window
        self.value = 0.0
        self.pause()

    def count(self, units: int) -> None:
        """Count `units` more units as done."""
        now = time.monotonic()
        self.marks.append((now, self.marks[-1][1] + units))
        while len(self.marks) > 2 and now - self.marks[1][0] > self.window:
            self.marks.popleft()
        (start, before), (end, after) = self.marks[0], self.marks[-1]
        self.value = (after - before) / max(end - start, 1e-3)

    def pause(self) -> None:
        """Start counting again, after something else was done in between. `value` stays."""
        self.marks: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
