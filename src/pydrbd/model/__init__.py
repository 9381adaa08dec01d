"""The room `model`; see docs/architecture.md."""
