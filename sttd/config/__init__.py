"""The configuration: found, read, overlaid by the environment, checked; then frozen values.

Reads files and the environment when asked. Opens no socket, makes no folder, logs nothing.
"""

from sttd.config.changing import Change, changes
from sttd.config.loading import load
from sttd.config.problems import ConfigError, Problem
from sttd.config.sections import Settings

__all__ = ["Change", "ConfigError", "Problem", "Settings", "changes", "load"]
