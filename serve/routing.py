"""The live routing table of a replica: which module answers a name, and how many requests run on each module."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol


class LoadedModule(Protocol):
    """The part of vLLM's `LoRARequest` that routing needs."""

    lora_name: str


@dataclass(slots=True)
class Call:
    """One HTTP request while it runs: the name it asked for and the module that it was bound to, once and for all."""

    name: str | None = None
    module: LoadedModule | None = None


current_call: ContextVar[Call | None] = ContextVar("current_call", default=None)


class LiveRoutes(dict[str, LoadedModule]):
    """Requested name -> loaded module, the dict that vLLM looks names up in.

    The look-up itself binds the running request to its module and counts it, so there is no moment in which a
    request holds a module that drain does not know of. Everything happens on one event loop: a flip is atomic.
    """

    def __init__(self) -> None:
        super().__init__()
        self.in_flight: Counter[str] = Counter()

    def __getitem__(self, name: str) -> LoadedModule:
        call = current_call.get()
        if call is None:
            return super().__getitem__(name)
        if call.module is None:
            call.name, call.module = name, super().__getitem__(name)
            self.in_flight[call.module.lora_name] += 1
        return call.module

    def release(self, call: Call) -> None:
        """Forget a finished request."""
        if call.module is not None:
            self.in_flight -= Counter([call.module.lora_name])

    def replace(self, routes: Mapping[str, LoadedModule]) -> None:
        """Flip: later look-ups see only `routes`; requests that run keep the module they were bound to."""
        self.clear()
        self.update(routes)
