"""The room `config`; see docs/architecture.md."""
