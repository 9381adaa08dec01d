"""What several tests need: an NBD client of our own, and the ledger of what it was promised."""
