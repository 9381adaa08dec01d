"""The room `device`; see docs/architecture.md."""
