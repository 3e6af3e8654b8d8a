"""Part III: minority groups and the neurons that serve them."""
