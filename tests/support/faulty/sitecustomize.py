"""Found by every Python of a daemon under test whose PYTHONPATH names this folder first."""

import os

if os.environ.get("STTD_TEST_FAULTS"):
    from tests.support import faulting

    faulting.install()
