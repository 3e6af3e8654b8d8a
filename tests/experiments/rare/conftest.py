"""What the tests of Part II's experiments share."""

import pytest

from helpers.experiments.rare import setup


@pytest.fixture
def built(monkeypatch):
    """Names of the networks that have been made."""
    made, original = [], setup.network

    def network(name, seed):
        made.append(name)
        return original(name, seed)

    monkeypatch.setattr(setup, "network", network)
    return made
