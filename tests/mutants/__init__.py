"""The package broken on purpose, one small change at a time: the tests named for it must notice."""

from typing import Final

from tests.mutants import calls, cluster, storage, watching, webhooks

MUTANTS: Final = (
    *storage.MUTANTS,
    *calls.MUTANTS,
    *watching.MUTANTS,
    *webhooks.MUTANTS,
    *cluster.MUTANTS,
)
