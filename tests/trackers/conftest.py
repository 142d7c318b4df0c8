import io
import sys

import pytest
from rich.console import Console


@pytest.fixture(scope="package", autouse=True)
def nobody(tmp_path_factory):
    """Nobody is logged in to W&B."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
            patch.delenv(name, raising=False)
        patch.setenv("NETRC", str(tmp_path_factory.mktemp("home") / "netrc"))
        patch.setenv("WANDB_SILENT", "true")
        patch.setenv("WANDB_ERROR_REPORTING", "false")
        yield


@pytest.fixture(scope="module", autouse=True)
def _own_service():
    """W&B's process of this one ends with a module: a child would find it by WANDB_SERVICE and share it."""
    yield
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()


@pytest.fixture
def console():
    """A terminal of 80 columns."""
    return Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
