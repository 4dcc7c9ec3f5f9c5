"""The units of settings: how sizes and times are annotated so that config can parse them.

Only names for types; parsing lives in `sttd.config`.
"""

from typing import Annotated, Literal

import msgspec

# Bytes; written "512MiB" in configuration files.
Size = Annotated[int, msgspec.Meta(ge=0, extra={"unit": "size"})]
# A share of the machine or the cgroup ("60%"), or a size.
MemoryBudget = Annotated[str, msgspec.Meta(extra={"unit": "budget"})]
# Seconds; written "90s", "6h", "7d" in configuration files.
Seconds = Annotated[float, msgspec.Meta(ge=0, extra={"unit": "seconds"})]
Count = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Workers = Positive | Literal["auto"]
