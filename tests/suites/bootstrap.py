"""Prints the Envoy bootstrap of scripts/suites.sh as JSON.

Arguments: the module, the filter's configuration (empty: no filter), and the listeners. A listener is LISTEN=CONNECT. Both are
a Unix socket or HOST:PORT. CONNECT can be `original_dst`, which means the original destination of the client.
"""

import json
import re
import sys


def address(text):
    if text.startswith("/"):
        return {"pipe": {"path": text, "mode": 0o777}}
    host, _, port = text.rpartition(":")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}


def cluster(name, connect):
    common = {"name": name, "connect_timeout": "5s"}
    if connect == "original_dst":
        return {**common, "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"}
    endpoint = {"lb_endpoints": [{"endpoint": {"address": address(connect)}}]}
    endpoint["lb_endpoints"][0]["endpoint"]["address"].get("pipe", {}).pop("mode", None)
    return {**common, "type": "STATIC", "load_assignment": {"cluster_name": name, "endpoints": [endpoint]}}


def firstword(module, configuration):
    return {
        "name": "firstword",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm",
            "config": {
                "name": "firstword",
                "root_id": "firstword",
                "fail_open": True,
                "vm_config": {
                    "vm_id": "firstword",
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": {"local": {"filename": module}},
                },
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": configuration,
                },
            },
        },
    }


def listener(name, listen, connect, filters):
    tcp_proxy = {
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": name,
            "cluster": name,
            "idle_timeout": "0s",
        },
    }
    found = {"name": name, "address": address(listen), "filter_chains": [{"filters": [*filters, tcp_proxy]}]}
    if connect == "original_dst":
        original_dst = "type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst"
        found["listener_filters"] = [
            {"name": "envoy.filters.listener.original_dst", "typed_config": {"@type": original_dst}}
        ]
    return found


module, configuration, *pairs = sys.argv[1:]
filters = [firstword(module, configuration)] if configuration else []
listeners, clusters = [], []
for number, pair in enumerate(pairs):
    listen, _, connect = pair.partition("=")
    listeners.append(listener(f"suite_{number}", listen, connect, filters))
    clusters.append(cluster(f"suite_{number}", connect))
# Tags of envoy/mysql.yaml, which extract labels from the metrics' names.
with open("envoy/mysql.yaml") as example:
    tags = re.findall(r"\{tag_name: (\w+), regex: '(.*)'\}", example.read())
json.dump(
    {
        "admin": {"address": address("127.0.0.1:9901")},
        "static_resources": {"listeners": listeners, "clusters": clusters},
        "stats_config": {"stats_tags": [{"tag_name": name, "regex": regex} for name, regex in tags]},
    },
    sys.stdout,
)
