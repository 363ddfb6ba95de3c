"""Several servers as one: NATS brings a message to the server that has the call, PostgreSQL is the judge."""

from callactors.cluster.connection import NatsOptions
from callactors.cluster.router import NatsRouter

__all__ = ["NatsOptions", "NatsRouter"]
