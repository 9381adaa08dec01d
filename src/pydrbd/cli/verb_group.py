"""The command group: it knows every verb's name, and imports a verb's module when the verb is called.

A command line is started once for each verb, by scripts many times a minute; what it does not need is not imported.
"""

from __future__ import annotations

from importlib import import_module

import click

MODULES = {
    "daemon_verbs": ("up", "down", "restart"),
    "role_verbs": ("primary", "secondary", "role"),
    "connection_verbs": ("connect", "disconnect", "cstate", "wait-connect", "wait-sync"),
    "disk_verbs": (
        "invalidate",
        "invalidate-remote",
        "verify",
        "outdate",
        "new-current-uuid",
        "pause-sync",
        "resume-sync",
        "detach",
        "attach",
        "suspend-io",
        "resume-io",
        "dstate",
        "disk-options",
        "adjust",
    ),
    "resize_verb": ("resize",),
    "status_verbs": ("status", "why"),
    "metadata_verbs": ("create-md", "wipe-md", "apply-al", "dump-md", "restore-md", "show-gi", "get-gi"),
    "config_verbs": ("dump", "sh-resources"),
    "nbd_file_verb": ("nbd-file",),
}
"""The modules of this package that hold verbs, and which: each module's `COMMANDS`, in the same order."""
_MODULE_OF = {verb: module for module, verbs in MODULES.items() for verb in verbs}


def commands_of(module: str) -> list[click.Command]:
    """Import one of `MODULES` and return its verbs."""
    commands: list[click.Command] = import_module(f"pydrbd.cli.{module}").COMMANDS
    return commands


class VerbGroup(click.Group):
    """click's group over `MODULES`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See `click.Group`."""
        return sorted({*super().list_commands(ctx), *_MODULE_OF})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See `click.Group`."""
        module = _MODULE_OF.get(cmd_name)
        if module is None:
            return super().get_command(ctx, cmd_name)
        return next(command for command in commands_of(module) if command.name == cmd_name)
