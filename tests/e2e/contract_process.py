"""Takes the live bank's engine through the contract, as the controller drives it: from a process in its Ray cluster.

A process of its own, because Ray reads its loopback switch when it is imported.
"""

from __future__ import annotations

import sys

import ray
from ray import serve as ray_serve

from router.registry import Registry
from serve.app import ENGINE_APP, ENGINE_DEPLOYMENT
from serve.fleet import Fleet
from tests.engine_contract import check_contract


def main(address: str, registry_url: str, folder: str) -> None:
    ray.init(address=address, namespace="serve", log_to_driver=False)
    fleet = Fleet(ray_serve.get_deployment_handle(ENGINE_DEPLOYMENT, app_name=ENGINE_APP))
    check_contract(fleet, "separate-of-the-contract-test", folder, Registry(registry_url).table())
    ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
