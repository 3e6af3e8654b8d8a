"""Seconds and memory of the book's own code."""
