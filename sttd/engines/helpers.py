"""Engines that keep their secrets in a helper process beside the supervisor: which, and how.

A table, so that the supervisor needs to import no engine to know. The helper is started as
`python -m MODULE SOCKET`, reads one line of JSON (the engine's options) from its standard input,
says "ready" on its standard output, and lives until its standard input ends.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import NamedTuple


class Helper(NamedTuple):
    """A helper: its module, the variable that tells workers its socket, what only it may know."""

    module: str
    variable: str
    secrets: tuple[str, ...]  # patterns of environment variables

    def environment(self, environ: Mapping[str, str], socket: str) -> dict[str, str]:
        """The environment of the template and the workers: no secrets, but where to ask."""
        kept = {
            name: value
            for name, value in environ.items()
            if not any(fnmatch.fnmatchcase(name, pattern) for pattern in self.secrets)
        }
        return {**kept, self.variable: socket}


HELPERS = {
    "azure": Helper(
        "sttd.engines.azure.broker",
        "STTD_HELPER_SOCKET",
        (
            "AZURE_ACCESS_TOKEN",
            "AZURE_CLIENT_SECRET",
            "AZURE_CLIENT_CERTIFICATE_PASSWORD",
            "AZURE_PASSWORD",
            "IDENTITY_HEADER",
            "MSI_SECRET",
            "CREDENTIALS_DIRECTORY",
            "STTD_CREDENTIAL_*",
        ),
    ),
}
