"""The ledger of one machine: a file in the state directory, for what needs no database."""
