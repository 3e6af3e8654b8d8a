"""Part V: what the four papers say of each other."""
