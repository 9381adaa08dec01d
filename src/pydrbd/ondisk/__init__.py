"""The room `ondisk`; see docs/architecture.md."""
