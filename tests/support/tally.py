"""What the long sweeps count, printed after the run as lines for docs/reliability.md.

A sweep goes on after a finding, so that one run tells of them all; it fails at its end.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

_LINES: list[str] = []


def lines() -> list[str]:
    """What has been counted in this run, in the order of the sweeps' ends."""
    return list(_LINES)


@dataclass
class Sweep:
    """One sweep under way. `what` begins its line; `unit` is what is counted."""

    what: str
    unit: str
    count: int = 0
    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def one(self, name: str) -> Iterator[None]:
        """One more is tried; what it asserts or raises becomes a finding."""
        self.count += 1
        try:
            yield
        except Exception as error:  # noqa: BLE001 - any is a finding, and the sweep goes on
            self.findings.append(f"{name}: {error}")

    def line(self, seconds: float) -> str:
        """As it goes into docs/reliability.md."""
        found = f"{len(self.findings)} findings" if self.findings else "no finding"
        notes = f" ({', '.join(self.notes)})" if self.notes else ""
        minutes = f"{seconds / 60:.1f} min"
        return f"- {self.what}: {self.count:,} {self.unit}{notes} in {minutes}, {found}."


@contextlib.contextmanager
def sweep(what: str, unit: str) -> Iterator[Sweep]:
    """Count until the block ends, whatever ends it; then fail if anything was found."""
    begun = time.monotonic()
    this = Sweep(what, unit)
    whole = False
    try:
        yield this
        whole = True
    finally:
        if not whole:
            this.notes.append("not run to its end")
        _LINES.append(this.line(time.monotonic() - begun))
        _LINES.extend(f"  - {finding.splitlines()[0][:300]}" for finding in this.findings)
    assert not this.findings, "\n".join(this.findings)
