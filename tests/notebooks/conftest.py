import apart
import pytest

from forked import instead_of_subprocess


@pytest.fixture(scope="session")
def forks():
    """What starts submissions' processes, in place of apart.py's `subprocess`."""
    forks, servers = instead_of_subprocess()
    yield forks
    for server in servers:
        server.close()


@pytest.fixture(autouse=True, scope="module")
def processes(forks):
    """Forks processes for submissions, without a sandbox unless a test asks: here they are ours."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINALBEF_UNSAFE", "1")
        patch.setattr(apart, "subprocess", forks)
        yield
