import apart_sandbox
import pytest


@pytest.fixture(autouse=True, scope="session")
def sandbox():
    """Submissions here are ours: they run in bubblewrap's sandbox where there is one, else in none."""
    apart_sandbox.trust_ours()
