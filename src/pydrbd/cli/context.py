"""What every verb knows: the configuration (read when first needed), this node, and where daemons and files are."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pydrbd import config
from pydrbd.config.description import Configuration, Resource

ALL = "all"


@dataclass(slots=True)
class Context:
    """The command line's global options."""

    config_path: Path
    node_name: str
    run_dir: Path
    state_dir: Path
    _configuration: Configuration | None = field(default=None, repr=False)

    def configuration(self) -> Configuration:
        """Return the whole configuration. Raises `ConfigError`."""
        if self._configuration is None:
            self._configuration = config.load(self.config_path)
        return self._configuration

    def resource(self, name: str) -> Resource:
        """Return one resource. Raises `ConfigError` if there is none of this name."""
        return self.configuration().resource(name)

    def names(self, resource: str) -> list[str]:
        """Return the resources that ``RESOURCE`` or ``all`` means. Raises `ConfigError`."""
        if resource == ALL:
            return [each.name for each in self.configuration().resources]
        # A daemon that runs is proof enough that the name is right, and its verbs work while the file is being edited.
        if not self.control_socket(resource).is_socket():
            self.resource(resource)
        return [resource]

    def control_socket(self, resource: str) -> Path:
        """Return the admin socket of a resource's daemon."""
        return self.run_dir / resource / "control.sock"

    def pid_file(self, resource: str) -> Path:
        """Return the pid file of a resource's daemon."""
        return self.run_dir / resource / "pid"

    def left_device(self, resource: str) -> Path:
        """Return the file that names the kernel device of a resource's daemon, or of its predecessor."""
        return self.run_dir / resource / "device.json"

    def environment(self) -> dict[str, str]:
        """Return the options as the environment variables that mean the same, for the programs that we start."""
        return {
            "PYDRBD_CONFIG": str(self.config_path),
            "PYDRBD_NODE": self.node_name,
            "PYDRBD_RUN_DIR": str(self.run_dir),
            "PYDRBD_STATE_DIR": str(self.state_dir),
        }
