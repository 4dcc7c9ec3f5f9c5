"""The fetching process with an Internet that is this machine: for tests alone.

`python -m tests.support.fetch_on_loopback PORT CERTIFICATE`: names resolve by the table below,
127.0.0.1 counts as public, and PORT is allowed.
"""

from __future__ import annotations

import ssl
import sys

from sttd.worker import addresses
from sttd.worker.fetch import Fetch, main

NAMES = {
    "localhost": ["127.0.0.1"],
    "private.test": ["10.0.0.1"],
    "metadata.test": ["169.254.169.254"],
    "mixed.test": ["127.0.0.1", "192.168.1.1"],
    "mapped.test": ["::ffff:10.0.0.1"],
}


def run(port: int, certificate: str) -> None:
    context = ssl.create_default_context(cafile=certificate)
    main(
        lambda wish, file: Fetch(
            wish,
            file,
            resolve=lambda target: NAMES[target.host],
            acceptable=lambda each: each == "127.0.0.1" or addresses.is_public(each),
            ports=(port,),
            context=context,
            first_pause_s=0.01,
        )
    )


if __name__ == "__main__":
    run(int(sys.argv[1]), sys.argv[2])
