"""Findings on disk: for each type and place the shortest input, which is shortened further when fuzzing has ended."""

from hashlib import sha256
from pathlib import Path

from analyses.fuzzing.harness import Finding, Target, attempt

_STEPS = 500  # inputs that are tried to shorten one


def keep(folder: Path, finding: Finding, data: bytes) -> None:
    """Write an input and its traceback, unless a shorter input of the same key is there."""
    place = folder / "findings" / sha256(finding.key.encode()).hexdigest()[:10]
    place.mkdir(parents=True, exist_ok=True)
    known = place / "input"
    if not known.exists() or known.stat().st_size > len(data):
        known.write_bytes(data)
        (place / "finding.txt").write_text(f"{finding.key}\n\n{finding.details}", encoding="utf-8", errors="replace")


def shorten_findings(target: Target, folder: Path, scratch: Path) -> None:
    """Shorten the inputs of findings by removing runs of bytes, as long as the same finding remains."""
    for place in sorted((folder / "findings").glob("*")):
        key = (place / "finding.txt").read_text(encoding="utf-8").split("\n")[0]
        if key not in ("slow", "memory"):  # each step would take as long
            _shorten(target, key, folder, (place / "input").read_bytes(), scratch)


def _shorten(target: Target, key: str, folder: Path, data: bytes, scratch: Path) -> None:
    size, steps = max(len(data) // 2, 1), 0
    while size and steps < _STEPS:
        start = 0
        while start < len(data) and steps < _STEPS:
            shorter = data[:start] + data[start + size :]
            finding = attempt(target, shorter, scratch).finding
            steps += 1
            if finding is not None and finding.key == key:
                data = shorter
                keep(folder, finding, data)
            else:
                start += size
        size //= 2
