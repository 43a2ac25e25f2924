"""What the stories on a cluster share: a client with a ledger, the installed chart, models to apply."""
