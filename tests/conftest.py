"""What all tests share: time for hypothesis on a busy machine, and the counts of the sweeps."""

from __future__ import annotations

import signal
import threading

import pytest
from hypothesis import HealthCheck, settings

from tests.support import tally

settings.register_profile("sttd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sttd")

# A shell starts what goes into its background deaf to Ctrl-C, and that is inherited by what a test
# starts and interrupts.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the sweeps have counted, as it goes into docs/reliability.md."""
    if found := tally.lines():
        terminalreporter.section("counts for docs/reliability.md")
        for line in found:
            terminalreporter.write_line(line)
