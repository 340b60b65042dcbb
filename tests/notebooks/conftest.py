import apart
import pytest

from forked import instead_of_subprocess


@pytest.fixture(autouse=True, scope="session")
def processes():
    """Submissions here are ours: their processes are forked, without a sandbox, unless a test asks for one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINALBEF_UNSAFE", "1")
        forks, servers = instead_of_subprocess()
        patch.setattr(apart, "subprocess", forks)
        yield
    for server in servers:
        server.close()
