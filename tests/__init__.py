"""Claims about archiver. `contract` is what the protocols promise; `harness` has servers."""
