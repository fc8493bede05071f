"""The suite that every repository has to pass."""

from __future__ import annotations

from sagaflow.testing._contract.copies import CopyContract
from sagaflow.testing._contract.documents import DocumentContract
from sagaflow.testing._contract.ids import IdContract
from sagaflow.testing._contract.queries import QueryContract
from sagaflow.testing._contract.simultaneous import SimultaneousContract
from sagaflow.testing._contract.surveys import SurveyContract
from sagaflow.testing._contract.transitions import TransitionContract
from sagaflow.testing._contract.work import WorkContract


class RepositoryContract(
    TransitionContract,
    CopyContract,
    SimultaneousContract,
    WorkContract,
    QueryContract,
    SurveyContract,
    IdContract,
    DocumentContract,
):
    """The suite that the built-in repositories pass, for authors of other repositories.

    Subclass it in a test module and say how a repository is opened; pytest, or any runner that
    calls methods named ``test_...``, does the rest. It needs neither fixtures nor plugins::

        class TestFileRepository(RepositoryContract):
            @asynccontextmanager
            async def open(self, clock):
                yield FileRepository(mkdtemp(), clock=clock)

    Each test opens an empty repository of its own; ``runtime = "trio"`` runs them on trio.
    """
