//! Findings about connections that wait or end before the greeting.

use super::code::Code;

/// Where Istio's causes of a hang lead to their fixes.
const ISTIO: &str = "docs/hang.md#in-istio-which-client-which-database";

pub(super) const CODES: &[Code] = &[
    Code {
        code: "connections-waiting",
        title: "connections wait in the listener filters now",
        text: "Envoy's statistics show connections that have reached a listener and that no filter chain has yet.
A listener filter waits for the client's first bytes there. On a port whose server speaks first,
the client waits for the greeting, so these connections hang. On a port for HTTP a connection waits
only for a moment. Look at the destination with --dest.",
        docs: "docs/hang.md#is-it-this-hang",
    },
    Code {
        code: "port-conflict",
        title: "an HTTP Service with the same port number makes connections hang",
        text: "Some HTTP Service in the mesh has this port number. Istio therefore makes one listener for all
addresses of the port and inspects each connection for HTTP. The inspector waits for the client's
first bytes, and a MySQL client waits for the server's greeting. Give the database a listener of its
own: a ServiceEntry by host name with Istio's DNS proxying, or one for its exact address. A network
(CIDR) does not help, because it joins the same listener.",
        docs: ISTIO,
    },
    Code {
        code: "shared-listener",
        title: "several ServiceEntries without addresses share one listener",
        text: "A ServiceEntry with a host name, without addresses and without automatic addresses has a listener for
all addresses of its port. Two of them on one port share it: connections to both hosts go to the
first one's cluster, or are inspected for HTTP. Turn on automatic addresses for the pods, or give the
ServiceEntries different ports.",
        docs: "docs/hang.md#a-database-by-dns-name",
    },
    Code {
        code: "undeclared-port",
        title: "the Service's port declares no protocol",
        text: "Istio inspects connections to a port that declares no protocol, or that several Services declare
differently. The inspector waits for the client's first bytes, and a MySQL client waits for the
greeting. Declare the port as TCP: name it tcp-mysql, or set appProtocol: tcp. Istio treats 3306 as TCP
without a declaration.",
        docs: ISTIO,
    },
    Code {
        code: "headless-pods",
        title: "the pods of a headless Service share a listener with an HTTP Service",
        text: "With PILOT_ENABLE_HEADLESS_FILTER_CHAIN_LISTENER (Istio 1.32, off by default), the pods of a headless
Service are filter chains of the listener for all addresses of their port. If an HTTP Service has that
port number, the listener inspects each connection, before it chooses the pod's chain. All replicas
hang. Nothing on the database's own Service ends it. A ServiceEntry with the pods' addresses does, and
goes stale when a pod restarts. Turn the setting off, or give the HTTP Service another port number.",
        docs: "docs/headless.md",
    },
    Code {
        code: "waypoint-undeclared-port",
        title: "the waypoint inspects a port that declares no protocol",
        text: "A waypoint inspects connections for HTTP on each port that declares no protocol. The inspector waits
for the client's first bytes, and a MySQL client waits for the greeting. Envoy closes the connection
after 15 seconds. Set appProtocol: tcp on the Service's port, or name it tcp-mysql.",
        docs: "docs/ambient.md",
    },
    Code {
        code: "waypoint-mixed-port",
        title: "the waypoint inspects a port number that an HTTP Service also has",
        text: "A waypoint leaves a port number out of the inspection only if all of its Services declare it in the same
way. One Service declares this number as TCP and another one as HTTP, or without a protocol. The
inspector waits for the client's first bytes, and Envoy closes the connection after 15 seconds. Give
one of the Services another port number.",
        docs: "docs/ambient.md",
    },
    Code {
        code: "waypoint-for-workloads",
        title: "a waypoint for workloads inspects every port",
        text: "If a workload uses a waypoint, the waypoint inspects every connection for HTTP, whatever the Services
declare, because it accepts any port for a workload. The inspector waits for the client's first bytes,
and Envoy closes the connection after 15 seconds. Every database behind the waypoint is affected. Label
the waypoint's Gateway with istio.io/waypoint-for: service.",
        docs: "docs/ambient.md",
    },
    Code {
        code: "outbound-inspector",
        title: "the listener of all outbound connections inspects them",
        text: "With outboundTrafficPolicy ALLOW_ANY_DYNAMIC_DNS (Istio 1.31 and newer), or by an EnvoyFilter, the
listener of all outbound connections has an inspector. It waits for the client's first bytes, also for
ports that are declared as TCP. Exclude the database's port from the inspection.",
        docs: ISTIO,
    },
    Code {
        code: "gateway-inspector",
        title: "the gateway waits for a ClientHello",
        text: "A Gateway's server with the protocol TLS or HTTPS makes Envoy read the client's first bytes. A MySQL
client begins TLS only after the greeting, so Envoy closes the connection after 15 seconds. Set the
protocol TCP for the Gateway's server on this port.",
        docs: ISTIO,
    },
    Code {
        code: "inspector",
        title: "a listener filter waits for the client's first bytes",
        text: "A listener filter such as tls_inspector or http_inspector runs before any network filter and waits for
the client's first bytes. A MySQL client sends nothing before the greeting. Remove the listener filter,
or disable it for the port.",
        docs: "docs/hang.md#in-plain-envoy",
    },
    Code {
        code: "inbound-permissive",
        title: "clients without a sidecar hang, because mutual TLS is PERMISSIVE",
        text: "With PERMISSIVE, Istio's default, Envoy reads the client's first bytes to find out whether it begins TLS.
A MySQL client without a sidecar sends nothing before the greeting. Clients with a sidecar begin TLS at
once and are greeted. Give the client a sidecar. Do not turn off mutual TLS on the port unless you must.",
        docs: ISTIO,
    },
    Code {
        code: "inbound-strict",
        title: "clients without a sidecar cannot connect, because mutual TLS is STRICT",
        text: "STRICT works as intended: only clients of the mesh connect. A client without a sidecar is not refused at
once, because Envoy waits for its ClientHello. If all clients are in the mesh, do nothing.",
        docs: ISTIO,
    },
    Code {
        code: "inbound-undeclared",
        title: "the pod's port declares no protocol",
        text: "Istio inspects inbound connections for HTTP on ports that no Service declares as TCP, even without
mutual TLS. The inspector waits for the client's first bytes. Declare the port as TCP in a Service.",
        docs: ISTIO,
    },
    Code {
        code: "proxy-protocol-before-inspector",
        title: "a PROXY header is removed before Istio's inspector",
        text: "Envoy's proxy_protocol listener filter removes the header. Then an inspector waits for the bytes after
it, which a MySQL client sends only after the greeting. Let Firstword receive the header instead, or
turn off mutual TLS on the port.",
        docs: "docs/proxy-headers.md#in-istio",
    },
    Code {
        code: "proxy-protocol-waits",
        title: "a listener filter waits for a PROXY header",
        text: "Envoy's proxy_protocol listener filter waits for the client's first bytes, also with
allow_requests_without_proxy_protocol. A client without a header sends nothing before the greeting.
Clients behind a proxy that sends a header at once are not affected.",
        docs: "docs/proxy-headers.md#in-istio",
    },
    Code {
        code: "tls-first",
        title: "the filter chain waits for TLS",
        text: "The filter chain ends TLS from the first byte. A MySQL client begins TLS only after the server's greeting
and its own request, so it never sends the ClientHello that the chain waits for.",
        docs: "docs/tls.md",
    },
    Code {
        code: "client-first-filter",
        title: "the filter chain is for a protocol whose client speaks first",
        text: "The filter chain ends in a filter such as the HTTP connection manager, which reads a request before it
connects to a server. A MySQL client sends nothing before the greeting. Use tcp_proxy for this port.",
        docs: "docs/hang.md",
    },
    Code {
        code: "undecided",
        title: "the configuration does not decide what happens",
        text: "The command does not evaluate a part of Envoy's configuration that decides about the connection. Connect
to the destination and wait for the greeting.",
        docs: "docs/limitations.md",
    },
];
