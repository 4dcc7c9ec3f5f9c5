"""A template whose supervisor died at the wrong moment, and the children that it forked just then.

Adopted is whoever loses a parent by the nearest subreaper, which the process of the tests is not:
that is how it looks when a supervisor has died.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from sttd.wire.messages import Fork, Forked, FromTemplate, Load, TemplateReady
from sttd.worker.channel import Channel
from tests.support.waiting import eventually

SOON_S = 10.0


@contextlib.contextmanager
def started(order: Load) -> Iterator[Channel[FromTemplate]]:
    """A template with its order, and the supervisor's end of its socket."""
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-m", "sttd.worker.template", str(theirs.fileno())]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
    channel: Channel[FromTemplate] = Channel(ours, FromTemplate)
    try:
        channel.send(order)
        yield channel
    finally:
        channel.close()
        process.wait(30)


@pytest.mark.parametrize("role", ["engine", "decoder"])
def test_a_child_that_somebody_else_adopts_leaves_at_once(role: str) -> None:
    order = Load(role=role, supervisor=os.getpid(), engine="drill")  # type: ignore[arg-type]
    with started(order) as channel:
        assert isinstance(channel.recv()[0], TemplateReady)
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                channel.send(Fork("w-1", 1), [theirs.fileno()])
            assert isinstance(channel.recv()[0], Forked)
            ours.settimeout(SOON_S)
            assert ours.recv(1) == b""  # the last who had it is gone


def test_a_template_whose_supervisor_died_while_it_started_loads_no_model() -> None:
    died = subprocess.Popen([sys.executable, "-c", ""])
    died.wait()
    order = Load(role="engine", supervisor=died.pid, engine="drill")
    with started(order) as channel, pytest.raises(EOFError):
        channel.recv()


FROZEN_WHILE_IT_FORKS = """
import os, signal
from sttd import linux
from sttd.worker import template

linux.become_subreaper()
supervisor = os.getpid()
if os.fork() == 0:
    between = os.getpid()
    if os.fork() == 0:
        print(between, os.getpid(), flush=True)
        template._be_adopted(between, supervisor)
        print("adopted", flush=True)
        os._exit(0)
    os.kill(between, signal.SIGSTOP)
    os._exit(0)
os.wait(), os.wait()
"""


def test_a_child_waits_for_its_adoption_however_long_its_parent_is_stopped() -> None:
    command = [sys.executable, "-c", FROZEN_WHILE_IT_FORKS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        between, child = map(int, process.stdout.readline().split())
        waits = psutil.Process(child)
        # it burns no processor time for it, and it does not give up
        eventually(lambda: waits.status() == psutil.STATUS_SLEEPING)
        eventually(lambda: psutil.Process(between).status() == psutil.STATUS_STOPPED)
        os.kill(between, signal.SIGCONT)
        assert process.stdout.readline() == "adopted\n"
