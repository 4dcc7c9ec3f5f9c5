"""What sttctl shows of a worker that was ended while it hung."""

from __future__ import annotations

import pytest

from sttd.ctl import past
from sttd.wire.lives import WhyView

HELPER = """Thread 0x00007f95291fd6c0 (most recent call first):
  File "threading.py", line 327 in wait
  File "threading.py", line 629 in wait
  File "threading.py", line 982 in run
  File "threading.py", line 1045 in _bootstrap_inner
  File "threading.py", line 1002 in _bootstrap
"""


def test_the_stack_of_the_job_is_shown_however_many_threads_the_engine_has(
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = (
        'Current thread 0x00007f250ec5eb80 (most recent call first):\n  File "engine.py", line 7\n'
    )
    evidence = {
        "worker": "w-1",
        "attempt": 1,
        "reason": "stalled",
        "samples": [],
        "stacks": "\n".join([*([HELPER] * 5), own]),
        "threads": [],
    }
    past.why(WhyView(about="w-1", kind="worker", evidence=(evidence,)))
    shown = capsys.readouterr().out
    assert "engine.py" in shown
    assert shown.index("engine.py") < shown.index("threading.py")
    assert "lines more" in shown
