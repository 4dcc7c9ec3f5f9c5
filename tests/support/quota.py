"""A real disk quota: an ext4 with the quota feature, limits set by quotactl(2).

Root ignores limits as long as it has CAP_SYS_RESOURCE; `WITHOUT_RESOURCE` starts a program
without it. Needs root, e2fsprogs and a kernel with CONFIG_QUOTA.
"""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
from pathlib import Path

import pytest

WITHOUT_RESOURCE = ("setpriv", "--bounding-set=-sys_resource")
_USRQUOTA = 0  # <linux/quota.h>
_Q_SETQUOTA, _Q_GETQUOTA = 0x800008, 0x800007
_LIMITS = 1  # QIF_BLIMITS of dqb_valid
_DQBLK = struct.Struct("=QQQQQQQQI4x")  # struct if_dqblk: limits in KiB, use in bytes
_libc = ctypes.CDLL(None, use_errno=True)


class Quota:
    """The quota of the present user on the ext4 that is mounted at `mount` with usrquota."""

    def __init__(self, mount: Path) -> None:
        found = subprocess.run(
            ["findmnt", "-no", "SOURCE", str(mount)], capture_output=True, text=True, check=True
        )
        self._device = found.stdout.strip().encode()

    def used(self) -> int:
        """Bytes that count."""
        return int(self._call(_Q_GETQUOTA, bytearray(_DQBLK.size))[2])

    def limit(self, size: int) -> None:
        """No more than so many bytes; 0: no limit."""
        blocks = -(-size // 1024)
        asked = _DQBLK.pack(blocks, blocks, 0, 0, 0, 0, 0, 0, _LIMITS)
        self._call(_Q_SETQUOTA, bytearray(asked))

    def _call(self, command: int, block: bytearray) -> tuple[int, ...]:
        buffer = (ctypes.c_char * len(block)).from_buffer(block)
        whole = (command << 8) | _USRQUOTA
        if _libc.quotactl(whole, self._device, os.getuid(), buffer) != 0:  # by this kernel
            error = ctypes.get_errno()
            pytest.skip(f"quotactl: {os.strerror(error)}")
        return _DQBLK.unpack(bytes(buffer.raw))
