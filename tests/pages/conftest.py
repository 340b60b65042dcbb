import pytest

from chromium import explorers


@pytest.fixture
def open_page(browser, explorer_page):
    """open_page(size="desktop", address="", **options): the shipped model's explorer, which has answered once.

    Its errors, messages and requests fail the test.
    """
    with explorers(browser) as open_explorer:

        def open_page(size: str = "desktop", address: str = "", **options):
            return open_explorer(explorer_page.as_uri() + address, size, **options)

        yield open_page
