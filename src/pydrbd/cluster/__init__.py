"""The room `cluster`; see docs/architecture.md."""
