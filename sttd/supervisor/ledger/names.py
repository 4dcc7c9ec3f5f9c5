"""Reserves output names: the wished stem, or stem-2, stem-3 when others came first.

Asks the ledger's own rows and whoever knows the disk; writes nothing but the stem's last number.
Efficient for 100,000 jobs of one name, because that number is remembered.
"""

from __future__ import annotations

import os

from sttd.supervisor.ledger.store import Store

# A file name has at most 255 bytes (NAME_MAX, limits.h); the rest is for ".azure.json" and for
# the temporary names of publication.
_MOST_BYTES = 255 - 32


def numbered(stem: bytes, number: int) -> bytes:
    """`stem` for number 1, else `stem-number`; its last part is cut where it would be too long.

    The cut is made between UTF-8 characters.
    """
    folder, slash, last = stem.rpartition(b"/")
    ending = b"" if number == 1 else b"-%d" % number
    room = _MOST_BYTES - len(ending)
    if len(last) > room:
        while room > 1 and last[room] & 0xC0 == 0x80:
            room -= 1
        last = last[:room]
    return folder + slash + last + ending


def reserve(store: Store, stem: str, now_ns: int) -> bytes:
    """A name beneath outbox/ that no job has and that is not taken on the disk."""
    plain = numbered(os.fsencode(stem), 1)
    return plain if _free(store, plain) else _next(store, plain, now_ns)


def reserve_another(store: Store, name: bytes, now_ns: int) -> bytes:
    """The next name after `name`, which proved to be taken: meeting-3 after meeting-2."""
    stem, _, ending = name.rpartition(b"-")
    if stem and ending.isdigit():
        remembered = store.row("stem_last", stem=stem)
        if remembered is not None and int(ending) <= int(remembered[0]):
            return _next(store, stem, now_ns)  # the ending was given here, not wished for
    return _next(store, name, now_ns)


def _next(store: Store, stem: bytes, now_ns: int) -> bytes:
    remembered = store.row("stem_last", stem=stem)
    number = int(remembered[0]) + 1 if remembered else 2
    while not _free(store, name := numbered(stem, number)):
        number += 1
    store.run("stem_note", stem=stem, last=number, now=now_ns)
    return name


def _free(store: Store, name: bytes) -> bool:
    if store.row("name_used", name=name) is not None:
        return False
    return not store.taken(os.fsdecode(name))
