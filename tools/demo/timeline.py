"""What a person reads while the demonstration runs: one line per step, with the time and who does it."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from pair import Status, wait_until

COLOURS = {"castor": "cyan", "pollux": "magenta", "": "white"}
KIB = 1024


class Timeline:
    """Prints steps; times are seconds since the demonstration began."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self.began = time.monotonic()

    def chapter(self, title: str) -> None:
        """Begin a part of the story."""
        self.console.print()
        self.console.rule(f"[bold]{title}", align="left", style="dim")

    def _line(self, who: str, mark: str, text: str) -> None:
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=7, justify="right", style="dim")
        grid.add_column(width=6, style=COLOURS[who])
        grid.add_column(width=1)
        grid.add_column(overflow="fold")
        grid.add_row(f"{time.monotonic() - self.began:.1f} s", who, mark, text)
        self.console.print(grid)

    def command(self, who: str, text: str) -> None:
        """Show what is being typed."""
        self._line(who, "[dim]$", f"[dim]{text}")

    def fact(self, who: str, text: str) -> None:
        """Show what has become true."""
        self._line(who, "[green]✓", text)

    def blow(self, who: str, text: str) -> None:
        """Show what goes wrong on purpose."""
        self._line(who, "[red]✗", f"[bold red]{text}")

    def state(self, who: str, status: Status) -> None:
        """Show a node's view of the resource."""
        text = f"{status.role}, disk {status.disk}; peer {status.connection}, disk {status.peer_disk}"
        self._line(who, "[blue]·", f"{text} ({status.replication})")

    def watch(self, who: str, ask: Callable[[], Status], what: str, timeout_s: float) -> None:
        """Show a resync's progress until both disks are UpToDate."""
        with self.console.status("") as spinner:

            def in_sync() -> bool:
                status = ask()
                device = status.peer_device
                parts = [what, status.replication, f"{device.get('percent-in-sync', 0):.0f} % in sync"]
                if "db/dt [MiB/s]" in device:
                    parts.append(f"{device['db/dt [MiB/s]']:.0f} MiB/s")
                    parts.append(f"{min(device['estimated-seconds-to-finish'], 9999)} s left")
                spinner.update(f"[{COLOURS[who]}]{', '.join(parts)}")
                return status.in_sync

            wait_until(in_sync, what, timeout_s)

    def document(self, title: str, text: str) -> None:
        """Show a file."""
        self.console.print(Panel(text.rstrip(), title=title, title_align="left", border_style="dim", expand=False))

    def summary(self, rows: list[tuple[str, str]]) -> None:
        """Close with what counts."""
        grid = Table.grid(padding=(0, 2))
        for name, value in rows:
            grid.add_row(name, f"[bold]{value}")
        self.console.print()
        self.console.print(Panel(grid, title="In the end", title_align="left", border_style="green", expand=False))
