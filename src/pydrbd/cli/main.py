"""`pydrbd`: the command. Global options, the verbs of each group, and errors as one sentence with DRBD's exit code.

Exit codes (drbd-utils 9): 1 usage, 2 a configuration that cannot be read, 10 one that is not valid or a resource that
is not up, 11 a state change refused, 17 no UpToDate data, 20 anything else; those of the metadata verbs are
drbdmeta's.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import click

from pydrbd import __version__
from pydrbd.cli.admin_client import VerbError
from pydrbd.cli.context import Context
from pydrbd.cli.verb_group import VerbGroup
from pydrbd.config.errors import ConfigError

EXIT_USAGE = 1
EXIT_OTHER = 20
EXIT_INTERRUPTED = 130


@click.group(cls=VerbGroup, context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": None})
@click.version_option(__version__, prog_name="pydrbd")
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    envvar="PYDRBD_CONFIG",
    default="/etc/drbd.conf",
    show_default=True,
)
@click.option("--node", envvar="PYDRBD_NODE", help="Whose `on` section is ours; else the host's name.")
@click.option(
    "--run-dir", type=click.Path(path_type=Path), envvar="PYDRBD_RUN_DIR", default="/run/pydrbd", show_default=True
)
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    envvar="PYDRBD_STATE_DIR",
    default="/var/lib/pydrbd",
    show_default=True,
)
@click.pass_context
def pydrbd(click_context: click.Context, config: Path, node: str | None, run_dir: Path, state_dir: Path) -> None:
    """Replicate a block device to another node."""
    click_context.obj = Context(config, node or platform.node(), run_dir, state_dir)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code. What goes wrong is one sentence on stderr."""
    try:
        result = pydrbd.main(args=arguments, prog_name="pydrbd", standalone_mode=False)
    except click.UsageError as error:
        error.show()
        return EXIT_USAGE
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return EXIT_INTERRUPTED
    except ConfigError as error:
        click.echo(str(error), err=True)
        return error.exit_code
    except VerbError as error:
        click.echo(error.sentence, err=True)
        return error.exit_code
    except BrokenPipeError:
        return EXIT_OTHER
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        click.echo(f"pydrbd: {name}{error.strerror or error}", err=True)
        return EXIT_OTHER
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
