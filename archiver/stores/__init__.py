"""Hot and cold stores, one module each. Neighbours here do not import each other."""
