"""Part II: rare spurious examples."""
