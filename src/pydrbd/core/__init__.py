"""The room `core`; see docs/architecture.md."""
