"""Serve S3 from OpenStack Swift: `python object_store_swift.py PLAN`, with the interpreter of the store's environment.

PLAN is a file, the JSON of `support.object_store.SwiftPlan`. Proxy, account, container and object server run in this
one process, as they do in Swift's own functional tests; each is what a deployment runs, on a ring with one disk.
"""
# mypy: ignore-errors
# ruff: noqa: PLC0415
# The two lines above: Swift is not in our environment; its imports look at the clock and the folder, set before them.

import json
import socket
import sys
import time
import warnings
from pathlib import Path
from typing import Any

INTERNAL = ("account", "container", "object")

SWIFT_CONF = """
[swift-hash]
swift_hash_path_suffix = tests
"""

INTERNAL_CONF = """
[DEFAULT]
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
fallocate_reserve = 0
disk_chunk_size = 262144
network_chunk_size = 262144
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""

PROXY_CONF = """
[DEFAULT]
swift_dir = {folder}
max_clients = 1024
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck listing_formats bulk s3api tempauth slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
client_chunk_size = 262144
object_chunk_size = 262144
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:s3api]
use = egg:swift#s3api
location = {region}
s3_acl = true
max_upload_part_num = 10000
storage_domain = {domain}
[filter:slo]
use = egg:swift#slo
max_manifest_segments = 10000
[filter:dlo]
use = egg:swift#dlo
[filter:tempauth]
use = egg:swift#tempauth
"""


def shift_clock(by_s: int) -> None:
    """Let this process believe that it is `by_s` seconds later."""
    if by_s:
        real_time = time.time
        time.time = lambda: real_time() + by_s


def listen(port: int = 0) -> socket.socket:
    """Return a socket that listens on `port`; on a free one without it."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(128)
    return listener


def make_ring(folder: Path, name: str, port: int) -> None:
    """Write the ring that leads to the one disk of the server on `port`."""
    from swift.common.ring import RingBuilder

    builder = RingBuilder(part_power=2, replicas=1, min_part_hours=0)
    builder.add_dev({"region": 1, "zone": 1, "weight": 1.0, "ip": "127.0.0.1", "port": port, "device": "disk"})
    builder.rebalance(seed=1)
    builder.get_ring().save(str(folder / f"{name}.ring.gz"))


def lay_out(plan: dict[str, Any], folder: Path) -> dict[str, socket.socket]:
    """Make the disk, the rings and the configurations; return the socket of each server by its name."""
    (folder / "devices/disk").mkdir(parents=True)
    listeners = {name: listen() for name in INTERNAL}
    for name, listener in listeners.items():
        make_ring(folder, name, listener.getsockname()[1])
        (folder / f"{name}.conf").write_text(INTERNAL_CONF.format(folder=folder, name=name))
    proxy = PROXY_CONF.format(folder=folder, region=plan["region"], domain=plan["domain"])
    users = [
        f"user_{user['access_key_id'].replace(':', '_')} = {user['secret_access_key']} {user['group']}\n"
        for user in plan["users"]
    ]
    (folder / "proxy.conf").write_text(proxy + "".join(users))
    return {**listeners, "proxy": listen(plan["port"])}


def serve(listeners: dict[str, socket.socket], folder: Path, plan: dict[str, Any]) -> None:
    """Serve until the process is ended."""
    import eventlet
    from swift.common import wsgi

    warnings.filterwarnings("ignore", message="capitalize_response_headers is disabled")
    applications = {}
    for name in listeners:
        names = {"log_name": f"{name}-server", "log_level": "WARNING"}
        applications[name] = wsgi.loadapp(str(folder / f"{name}.conf"), global_conf=names)
    if plan["has_cache"]:
        from object_store_cache import remembering

        applications["proxy"] = remembering(applications["proxy"])
    listeners["google"] = listen(plan["google_port"])
    applications["google"] = make_gateway(applications["proxy"], folder, plan)
    threads = [eventlet.spawn(run, listener, applications[name]) for name, listener in listeners.items()]
    for thread in threads:
        thread.wait()


def make_gateway(proxy: Any, folder: Path, plan: dict[str, Any]) -> Any:
    """Return what answers as Google would; its service account is written beside the configurations."""
    from object_store_gateway import Gateway

    owner = plan["users"][0]
    gateway = Gateway(proxy, owner["access_key_id"], owner["secret_access_key"])
    account = folder / "service-account.json"
    account.touch(mode=0o600)
    account.write_text(json.dumps(gateway.service_account(f"http://127.0.0.1:{plan['google_port']}")))
    return gateway


def run(listener: socket.socket, application: Any) -> None:
    """Serve one application as Swift's run_server does, which a process can call only once: it replaces the hub."""
    import eventlet.wsgi
    from swift.common import wsgi

    options = {"protocol": wsgi.SwiftHttpProtocol, "capitalize_response_headers": False, "socket_timeout": 300}
    pool = eventlet.GreenPool(1024)
    eventlet.wsgi.server(listener, application, wsgi.NullLogger(), custom_pool=pool, **options)


def main() -> None:
    """Set clock, folder and logs, then start."""
    plan = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(plan["folder"])
    shift_clock(plan["clock_shift_s"])
    (folder / "swift.conf").write_text(SWIFT_CONF)

    import logging

    from swift.common import utils
    from swift.common.utils import logs

    utils.monkey_patch()
    logs.ThreadSafeSysLogHandler = lambda **_options: logging.StreamHandler()  # not into the machine's own log
    utils.set_swift_dir(str(folder))
    serve(lay_out(plan, folder), folder, plan)


if __name__ == "__main__":
    main()
