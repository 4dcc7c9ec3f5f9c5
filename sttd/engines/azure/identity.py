"""`python -m sttd.engines.azure.identity`: fetches one Entra token and ends.

The only module that imports azure-identity, and it lives as long as one request: what the library
and its dependencies hold (about 25 MiB) is never a worker's nor a broker's memory, a credential
that hangs can be killed, and every credential is closed by the end of the process at the latest.

Standard input: a JSON object of `Wanted`; standard output: a JSON object of `Fetched`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any, Literal

import msgspec

# azure-identity asks an absent metadata service for seconds, and one that hangs for minutes; a
# worker that waits for it must be told before the daemon takes it for stalled, which is 60 s
FETCH_LIMIT_S = 40.0


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which token."""

    scope: str
    credential: str = "default"
    client_id: str = ""


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """A token, or why there is none: `refused` by the identity service, or it was `away`."""

    token: str = ""
    expires_at: float = 0.0  # Unix seconds
    problem: Literal["", "refused", "away"] = ""
    message: str = ""

    def __repr__(self) -> str:
        return f"Fetched({self.problem or 'token'}, {self.message})"


def fetch(wanted: Wanted, limit_s: float = FETCH_LIMIT_S) -> Fetched:
    """Ask for a token in a process of its own. Never raises: what went wrong is in the answer."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "sttd.engines.azure.identity"],
            input=msgspec.json.encode(wanted),
            capture_output=True,
            timeout=limit_s,
            check=False,
        )
        return msgspec.json.decode(done.stdout, type=Fetched)
    except subprocess.TimeoutExpired:
        return Fetched(problem="away", message=f"no token within {limit_s:.0f} s")
    except (OSError, msgspec.DecodeError) as error:
        return Fetched(problem="away", message=f"the identity helper failed: {error}")


def _credential(wanted: Wanted) -> Any:
    from azure import identity  # noqa: PLC0415  heavy: only when a token is really fetched

    chosen: Any = {"client_id": wanted.client_id} if wanted.client_id else {}
    if wanted.credential == "managed-identity":
        return identity.ManagedIdentityCredential(**chosen)
    if wanted.credential == "workload-identity":
        return identity.WorkloadIdentityCredential(**chosen)
    if wanted.credential == "cli":
        return identity.AzureCliCredential()
    if wanted.credential == "environment":
        return identity.EnvironmentCredential()
    managed: Any = {"managed_identity_client_id": wanted.client_id} if wanted.client_id else {}
    return identity.DefaultAzureCredential(**managed)


def _fetch_here(wanted: Wanted) -> Fetched:
    try:
        from azure.core.exceptions import AzureError, ClientAuthenticationError  # noqa: PLC0415

        with _credential(wanted) as credential:
            token = credential.get_token(wanted.scope)
    except ImportError:
        return Fetched(problem="refused", message="azure-identity is not installed (sttd[azure])")
    except (ClientAuthenticationError, ValueError) as error:
        return Fetched(problem="refused", message=_one_line(error))
    except AzureError as error:
        return Fetched(problem="away", message=_one_line(error))
    except Exception as error:  # noqa: BLE001  credentials raise what they like
        return Fetched(problem="refused", message=f"{type(error).__name__}: {_one_line(error)}")
    return Fetched(token=token.token, expires_at=float(token.expires_on))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:1000]


def main() -> None:
    """Read what is wanted, print what was fetched."""
    wanted = msgspec.json.decode(sys.stdin.buffer.read(), type=Wanted)
    started = time.time()
    fetched = _fetch_here(wanted)
    if not fetched.problem and fetched.expires_at <= started:
        fetched = Fetched(
            problem="refused", message="the token is already past its time: check this clock"
        )
    sys.stdout.buffer.write(msgspec.json.encode(fetched))
    sys.stdout.flush()
    os._exit(0)  # some credentials leave threads behind


if __name__ == "__main__":
    main()
