"""What the audit says of models and data whose truth is known."""
