"""Keeping a private Ray on the loopback interface."""

from __future__ import annotations

import ipaddress
from functools import partial
from typing import Any

from ray.serve._private import replica
from ray.util import get_node_ip_address


def keep_replica_on_loopback() -> None:
    """Let this replica's port for other deployments listen on loopback if the node does; call it in a constructor.

    Ray binds that port to every interface and has no setting for it. On a cluster other nodes need it, and it stays.
    """
    if ipaddress.ip_address(get_node_ip_address()).is_loopback:
        replica.add_port_to_grpc_server = partial(_add_loopback_port, replica.add_port_to_grpc_server)


def _add_loopback_port(add: Any, server: Any, address: str) -> Any:
    return add(server, address.replace("[::]", "127.0.0.1"))
