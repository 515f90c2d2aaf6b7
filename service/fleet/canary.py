"""A challenger that answers a share of the requests: whose, and for how long.

A client always gets the same version, in every worker and after a restart: the hash of its token's
name, or of its address where there are no tokens, salted with the canary's job, decides. An address
that stands for many, which would get all requests or none, is no client: of a proxy on this machine
or one that is not trusted. There the request's id decides, or chance.
"""

import os
import time
from dataclasses import dataclass, replace
from hashlib import blake2b

from models.base.errors import RegistryError
from models.versions.registry_state import Canary
from service.configuration.proxies import is_loopback, name_address
from service.fleet.loader import Loader
from service.fleet.served import Served
from service.web.call import Call


@dataclass(frozen=True)
class ServedCanary:
    """The loaded challenger, and the champion that answers all other requests."""

    canary: Canary
    challenger: Served
    champion: Served

    def over(self) -> bool:
        """Whether its time has come."""
        return time.time() >= self.canary.until

    def choose(self, call: Call) -> Served:
        """Return the version for a request; the champion where the challenger does not run."""
        if self.over() or self.challenger.runner.failing:
            return self.champion
        client = client_of(call) or call.id() or os.urandom(16).hex()
        if place(self.canary.event, client) >= self.canary.share:
            return self.champion
        return self.challenger


def open_canary(loader: Loader, canary: Canary, champion: Served) -> ServedCanary:
    """Load the challenger beside the champion, which answers what the challenger cannot run.

    Raises:
        RegistryError: there is no such version, or it takes other inputs or gives other classes.
        BundleError: it is damaged or does not run.
    """
    challenger = loader.open(champion.manifest.model, canary.version)
    ours, theirs = challenger.manifest, champion.manifest
    if (ours.input, ours.classes) != (theirs.input, theirs.classes):
        raise RegistryError(
            f"version {ours.version} takes other inputs or classes than version "
            f"{theirs.version}: it cannot answer a share of its requests"
        )
    return ServedCanary(canary, replace(challenger, instead=champion), champion)


def client_of(call: Call) -> str:
    """Return who asks: the token's owner, else the client's address; empty where neither is known.

    The guard has found the address behind the proxies that are trusted. It is hashed, and not kept.
    """
    if call.actor or not call.caller:
        return call.actor
    forwarded = call.header("x-forwarded-for") or call.header("forwarded")
    untrusted = forwarded is not None and call.caller == name_address(call.peer)
    return "" if untrusted or is_loopback(call.caller) else f"address {call.caller}"


def place(salt: str, client: str) -> float:
    """Return where a client lies in [0, 1): uniform over clients, another one for each salt.

    >>> round(place("job", "token ada"), 3) == round(place("job", "token ada"), 3)
    True
    """
    digest = blake2b(f"{salt}\0{client}".encode(), digest_size=7).digest()
    return int.from_bytes(digest) / 2.0**56
