"""The room `state`; see docs/architecture.md."""
