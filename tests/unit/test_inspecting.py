"""What a worker finds in itself."""

from __future__ import annotations

import ctypes
import gc

from sttd import linux
from sttd.worker.inspecting import Inspector, malloc_view, mapped_view
from tests.support.handled import Handled

SMAPS = """\
7f00-7f10 r-xp 00000000 08:01 12   /usr/lib/libone.so (deleted)
Size:                 64 kB
Rss:                  40 kB
7f10-7f20 r--p 00000000 08:01 12   /usr/lib/libone.so (deleted)
Rss:                  20 kB
55d0-55e0 rw-p 00000000 00:00 0    [heap]
Rss:                 100 kB
7f20-7f30 rw-p 00000000 00:00 0
Rss:                   8 kB
7f30-7f40 r-xp 00000000 08:01 13   /opt/a b/libtwo.so
Rss:                   4 kB
"""

MALLOC = b"""<malloc version="1"><heap nr="0"><sizes></sizes>
<total type="fast" count="1" size="10"/><total type="rest" count="1" size="20"/>
<system type="current" size="1000"/><system type="max" size="1000"/></heap>
<heap nr="1"><system type="current" size="500"/></heap>
<total type="fast" count="2" size="30"/><total type="rest" count="4" size="270"/>
<total type="mmap" count="1" size="4096"/><system type="current" size="1500"/>
<system type="max" size="9999"/><aspace type="total" size="9999"/></malloc>"""


def test_resident_bytes_are_split_by_what_is_behind_them() -> None:
    found = mapped_view(SMAPS.splitlines())
    assert (found.files_bytes, found.anonymous_bytes) == (64 << 10, 108 << 10)
    assert [(one.name, one.rss_bytes >> 10) for one in found.libraries] == [
        ("libone.so", 60),
        ("libtwo.so", 4),
    ]


def test_the_sums_over_all_arenas_are_read_not_those_of_the_first() -> None:
    found = malloc_view(MALLOC)
    assert found is not None
    assert (found.arenas, found.total_bytes, found.free_bytes) == (2, 5596, 300)
    assert found.used_bytes == 5296


def test_a_c_library_that_tells_nothing_is_no_failure() -> None:
    assert malloc_view(b"") is None


def test_what_malloc_gave_is_counted_as_used() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    before = malloc_view(linux.malloc_info())
    block = libc.malloc(ctypes.c_size_t(50 << 20))
    after = malloc_view(linux.malloc_info())
    libc.free(ctypes.c_void_p(block))
    assert before is not None
    assert after is not None
    assert 50 << 20 <= after.used_bytes - before.used_bytes < 51 << 20


class Leaked:
    """Something whose number grows."""


def test_a_second_deep_look_names_the_type_that_grew_and_the_handles() -> None:
    engine = Handled({})
    inspector = Inspector(engine)
    gc.collect()  # what other tests left
    assert inspector.look(deep=True).change is None
    engine._sessions += 2
    inspector.jobs += 2
    kept = [Leaked() for _ in range(5000)]
    change = inspector.look(deep=True).change
    assert change is not None
    assert change.jobs == 2
    assert change.types[f"{__name__}.Leaked"] == len(kept)
    assert change.handles == {"sessions": 2}
    assert change.python_objects >= 5000


def test_a_shallow_look_counts_no_types() -> None:
    found = Inspector(Handled({})).look(deep=False)
    assert (found.types, found.handles) == ((), None)
    assert found.python_objects > 0
    assert found.mapped.files_bytes > 0
