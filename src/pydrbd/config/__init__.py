"""The configuration: text of either dialect -> one immutable, validated description, and back.

`load` reads a file and what it includes, `parse` a text, `dump` writes the dialect of 8.4. Whatever is wrong is one
`ConfigError`. Only `files.py` opens files; the rest of the room is pure and knows no host, clock or command line.
"""

from pydrbd.config.description import (
    Configuration,
    DiskOptions,
    GlobalOptions,
    Handlers,
    Host,
    MetaDisk,
    MetaDiskKind,
    NetOptions,
    Resource,
    ResourceOptions,
    ResourceView,
    StartupOptions,
    Volume,
)
from pydrbd.config.dump import dump, dump_resource
from pydrbd.config.errors import ConfigError, Place
from pydrbd.config.files import load
from pydrbd.config.text import parse

__all__ = [
    "ConfigError",
    "Configuration",
    "DiskOptions",
    "GlobalOptions",
    "Handlers",
    "Host",
    "MetaDisk",
    "MetaDiskKind",
    "NetOptions",
    "Place",
    "Resource",
    "ResourceOptions",
    "ResourceView",
    "StartupOptions",
    "Volume",
    "dump",
    "dump_resource",
    "load",
    "parse",
]
