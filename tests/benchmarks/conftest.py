from tests.datasets.conftest import root

__all__ = ["root"]
