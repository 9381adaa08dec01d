"""The room `node`; see docs/architecture.md."""
