"""Part IV: shortcuts as leading modes."""
