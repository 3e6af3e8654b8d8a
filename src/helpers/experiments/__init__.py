"""The grids and trials behind the stored results, one folder a part."""
