"""The room `wire`; see docs/architecture.md."""
