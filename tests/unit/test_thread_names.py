"""Threads as the kernel knows them, whatever they are called."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator

import pytest

from sttd import linux
from sttd.supervisor import examine

CUT = "transcription-é".encode()[:15]  # as the kernel cuts it: within a character


@pytest.fixture(autouse=True)
def _thread() -> Iterator[None]:
    """A thread whose name is no text any more."""
    named, end = threading.Event(), threading.Event()

    def run() -> None:
        ctypes.CDLL(None).prctl(linux.PR_SET_NAME, CUT, 0, 0, 0)
        named.set()
        end.wait()

    one = threading.Thread(target=run, name="known")
    one.start()
    named.wait()
    yield
    end.set()
    one.join()


def test_a_name_that_was_cut_within_a_character_can_be_told() -> None:
    found = [one for one in examine.threads(os.getpid()) if one.name.startswith("transcription")]
    assert [one.name for one in found] == ["transcription-\\xc3"]
    assert found[0].state in "RSD"


def test_a_thread_of_pythons_is_called_as_python_calls_it() -> None:
    assert "known" in linux.thread_names()
