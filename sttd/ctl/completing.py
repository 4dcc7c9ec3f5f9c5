"""What the shell may offer for JOB, WORKER and the like: asks the daemon, briefly, and never fails.

Imported with every verb that takes such an argument, so it imports little.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from sttd.client import Client

MOST = 50
PATIENCE_S = 0.5  # someone waits at a prompt


def complete_job(
    context: click.Context, _parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    """Ids of the latest jobs, with their names and states."""
    return _offer(context, begun, _jobs)


def complete_worker(
    context: click.Context, _parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    """Ids of the workers there are."""
    return _offer(context, begun, _workers)


def complete_about(
    context: click.Context, _parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    """Either, and workers that are gone."""
    return _offer(context, begun, lambda one: _workers(one) | _lives(one) | _jobs(one))


def _jobs(client: Client) -> dict[str, str]:
    return {job.job: f"{job.state} {job.source.name}" for job in client.jobs(limit=MOST)}


def _workers(client: Client) -> dict[str, str]:
    return {worker.id: worker.state for worker in client.workers()}


def _lives(client: Client) -> dict[str, str]:
    return {life.worker: life.cause for life in client.lives(limit=MOST)}


def _offer(
    context: click.Context, begun: str, ask: Callable[[Client], dict[str, str]]
) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - for the shell alone

    from sttd.client import Client  # noqa: PLC0415
    from sttd.ctl import finding, human  # noqa: PLC0415

    given = context.find_root().params
    try:
        where = finding.endpoint(given.get("socket"))
        keys = finding.keys(given.get("keys") or os.environ.get("STTD_KEYS"), where)
        with Client(where, curve=keys, patience_s=PATIENCE_S) as client:
            found = ask(client)
    except Exception:  # noqa: BLE001 - a prompt is no place for complaints
        return []
    return [
        CompletionItem(value, help=human.plain(help_))
        for value, help_ in found.items()
        if value.startswith(begun)
    ]
