"""What each use may have of a process's descriptors."""

from __future__ import annotations

import errno
import os
import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sttd.supervisor import descriptors


def with_limit(patch: pytest.MonkeyPatch, soft: int) -> None:
    patch.setattr(resource, "getrlimit", lambda _which: (soft, soft))


@given(st.integers(128, 1 << 20))
def test_what_is_kept_leaves_workers_at_least_half_of_the_limit(soft: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        with_limit(patch, soft)
        kept = descriptors.for_clients() + descriptors.for_a_rush() + descriptors.for_files()
        assert kept <= soft // 2
        assert 6 * descriptors.recordings_at_once() <= descriptors.for_files()
        assert descriptors.uploads_at_once() < descriptors.for_files()


def test_a_process_without_a_limit_keeps_no_more_than_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_limit(monkeypatch, resource.RLIM_INFINITY)
    assert descriptors.for_clients() == descriptors.MOST_CLIENTS
    assert descriptors.recordings_at_once() == 128
    descriptors.require(1_000)


def test_a_worker_for_whom_there_are_too_few_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used = len(os.listdir("/proc/self/fd"))
    with_limit(monkeypatch, 2 * (used + 200))
    descriptors.require(0)
    on_their_way = (used + 400) // descriptors.ON_ITS_WAY
    with pytest.raises(OSError, match=r"Too many open files: .* raise LimitNOFILE=") as refused:
        descriptors.require(on_their_way)
    assert refused.value.errno == errno.EMFILE
