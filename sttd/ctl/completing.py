"""What the shell may offer for JOB, WORKER and the like: asks the daemon, briefly, and never fails.

Imported with every verb that takes such an argument, so it imports little.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, get_args

import click

from sttd.ctl import human

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from sttd.client import Client
    from sttd.wire.views import JobStateName

MOST = 50
PATIENCE_S = 0.5  # someone waits at a prompt


def complete_job(
    context: click.Context, _parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    """Ids of the latest jobs, with their names and states."""
    return _offer(context, begun, _jobs)


def complete_waiting(
    context: click.Context, _parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    """Ids of jobs that can be cancelled."""
    return _offer(context, begun, lambda one: _jobs(one, "queued", "deferred", "running"))


def complete_retriable(
    context: click.Context, _parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    """Ids of jobs that can be tried again."""
    return _offer(context, begun, lambda one: _jobs(one, "failed", "cancelled"))


def complete_state(
    _context: click.Context, _parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    """The states of a job."""
    from sttd.wire.views import JobStateName  # noqa: PLC0415

    return _items(dict.fromkeys(get_args(JobStateName), ""), begun)


def complete_event(
    _context: click.Context, _parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    """Events, and what stands before their dots: all of that kind."""
    from sttd.events import EVENTS  # noqa: PLC0415

    kinds = {name.partition(".")[0]: "all of these" for name in EVENTS}
    return _items(kinds | {name: one.help for name, one in EVENTS.items()}, begun)


def complete_section(
    context: click.Context, _parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    """Sections of the configuration, and its keys."""
    return _offer(context, begun, _settings)


def complete_worker(
    context: click.Context, _parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    """Ids of the workers there are."""
    return _offer(context, begun, _workers)


def complete_past_worker(
    context: click.Context, _parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    """Ids of workers, those that are gone too."""
    return _offer(context, begun, lambda one: _workers(one) | _lives(one))


def complete_about(
    context: click.Context, _parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    """Either, and workers that are gone."""
    return _offer(context, begun, lambda one: _workers(one) | _lives(one) | _jobs(one))


def _jobs(client: Client, *states: JobStateName) -> dict[str, str]:
    found = [job for one in states or (None,) for job in client.jobs(state=one, limit=MOST)]
    return {job.job: f"{job.state} {job.source.name}" for job in found}


def _settings(client: Client) -> dict[str, str]:
    keys = {one.key: human.toml(one.value) for one in client.config()}
    return {name: "" for key in keys if (name := key.rpartition(".")[0])} | keys


def _workers(client: Client) -> dict[str, str]:
    return {worker.id: worker.state for worker in client.workers()}


def _lives(client: Client) -> dict[str, str]:
    return {life.worker: life.cause for life in client.lives(limit=MOST)}


def _offer(
    context: click.Context, begun: str, ask: Callable[[Client], dict[str, str]]
) -> list[CompletionItem]:
    from sttd.client import Client  # noqa: PLC0415 - for the shell alone
    from sttd.ctl import finding  # noqa: PLC0415

    given = context.find_root().params
    try:
        where = finding.endpoint(given.get("socket"))
        keys = finding.keys(given.get("keys") or os.environ.get("STTD_KEYS"), where)
        with Client(where, curve=keys, patience_s=PATIENCE_S) as client:
            found = ask(client)
    except Exception:  # noqa: BLE001 - a prompt is no place for complaints
        return []
    return _items(found, begun)


def _items(found: Mapping[str, str], begun: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem  # noqa: PLC0415

    return [
        CompletionItem(value, help=human.plain(help_))
        for value, help_ in found.items()
        if value.startswith(begun)
    ]
