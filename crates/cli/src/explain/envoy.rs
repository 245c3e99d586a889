//! Findings about Envoy's configuration around a database.

use super::code::Code;

pub(super) const CODES: &[Code] = &[
    Code {
        code: "black-hole",
        title: "the mesh forwards only to hosts that it knows",
        text: "With outboundTrafficPolicy REGISTRY_ONLY, Envoy closes connections to a destination for which the mesh has
no Service or ServiceEntry. Create a ServiceEntry for the database.",
        docs: "docs/manifests.md",
    },
    Code {
        code: "no-endpoint",
        title: "the cluster has no endpoint",
        text: "Envoy closes the connection, because the cluster to which the filter chain forwards has no address. Look
at the Service's selector and at the readiness of its pods.",
        docs: "docs/symptoms.md#the-client-waits-for-the-greeting",
    },
    Code {
        code: "no-cluster",
        title: "the cluster does not exist",
        text: "Envoy closes the connection, because tcp_proxy names a cluster that Envoy does not have.",
        docs: "docs/symptoms.md#the-client-waits-for-the-greeting",
    },
    Code {
        code: "no-chain",
        title: "no filter chain matches",
        text: "No filter chain of the listener is for such a connection, and there is no default chain. Envoy closes it.",
        docs: "docs/symptoms.md#the-client-waits-for-the-greeting",
    },
    Code {
        code: "no-listener",
        title: "no listener accepts the connection",
        text: "No listener of this Envoy has the address and port. Check the address, and whether the input is from the
right proxy: that of the client's pod for outbound connections, that of the database's pod for inbound
ones (--side inbound).",
        docs: "docs/hang.md#is-it-this-hang",
    },
    Code {
        code: "listener-refused",
        title: "Envoy has refused a listener",
        text: "Envoy refused the newest configuration of the listener and keeps the one before. The finding has Envoy's
own words. A wrong EnvoyFilter, or two resources for one address and port, are the usual causes.",
        docs: "docs/install-istio.md#how-to-see-that-it-worked",
    },
    Code {
        code: "unix-socket-skipped",
        title: "a listener on a Unix socket is not examined",
        text: "The command examines connections by their destination address. A listener on a Unix socket has none.",
        docs: "docs/limitations.md",
    },
    Code {
        code: "unknown-port-skipped",
        title: "a listener with port 0 is not examined",
        text: "The kernel chooses the port of such a listener, and a configuration does not show it. Use Envoy's admin interface,
or give the address of the listener with --dest.",
        docs: "docs/limitations.md",
    },
    Code {
        code: "proxy-protocol-bypassed",
        title: "a client can omit the required PROXY header",
        text: "The listener requires a PROXY header and has continue_on_listener_filters_timeout. A client that sends
nothing until the time-out connects without a header, with the address of its socket.",
        docs: "docs/proxy-headers.md#in-envoy",
    },
    Code {
        code: "proxy-protocol-after-original-dst",
        title: "the PROXY header decides where the connection goes",
        text: "The proxy_protocol listener filter runs after original_dst, so the destination in the header replaces the
original one. That is the address of the load balancer. Put the filter first (INSERT_FIRST).",
        docs: "docs/proxy-headers.md#in-istio",
    },
    Code {
        code: "hang-not-visible",
        title: "the statistic that shows a hang is not exported",
        text: "Istio's statistics do not contain downstream_pre_cx_active unless the pod's annotations include it. Without
it, connections that wait in a listener filter are in no statistic and in no log.",
        docs: "docs/install-istio.md",
    },
    Code {
        code: "rbac-after-greeting",
        title: "an authorization policy refuses clients only after the greeting",
        text: "The RBAC filter decides at the client's first bytes, which come after the greeting. A client that is refused
receives the greeting and is closed when it responds.",
        docs: "docs/access-log.md",
    },
    Code {
        code: "default-connection-limit",
        title: "Envoy limits the connections to 1024",
        text: "Without circuit_breakers Envoy lets 1024 connections of a cluster be open at once and closes further ones
before the greeting. Set max_connections in the cluster's thresholds. Istio sets another limit.",
        docs: "docs/symptoms.md#too-many-connections",
    },
    Code {
        code: "drain-cuts-responses",
        title: "a drain cuts responses and loses commits",
        text: "With check_drain_close in tcp_proxy, Envoy closes a draining connection at its next bytes in either
direction. Measured on 1.39 and 1.40: it cuts a result in the middle. The next command reaches the
server, which executes it, and the client gets a close instead of the response. The fate of a COMMIT is
then unknown. Idle connections stay open. Remove the setting.",
        docs: "docs/symptoms.md#a-change-closed-all-connections",
    },
    Code {
        code: "starttls-without-split",
        title: "TLS at the proxy loses some logins",
        text: "Envoy's starttls transport socket reads in plain text until a filter begins TLS. A MySQL client may send its
ClientHello directly after its request for TLS. If Envoy reads both at once, the ClientHello is lost:
the login fails or hangs. Measured: 15 to 40 percent of the logins on a busy machine. A first listener that
forwards the request alone and holds the rest for a moment, before a second listener with starttls,
prevents it.",
        docs: "docs/tls.md",
    },
    Code {
        code: "mysql-proxy-downstream-ssl",
        title: "mysql_proxy loses some TLS logins",
        text: "With downstream_ssl, Envoy's mysql_proxy filter ends TLS for the client and drops all bytes after the
client's request for TLS. If the ClientHello is among them, the client waits until its own time-out. The
filter sees passwords in plain text, and it does not use TLS to the server. Let TLS pass to the server.",
        docs: "docs/tls.md",
    },
    Code {
        code: "tls-not-validated",
        title: "Envoy does not verify the server's certificate",
        text: "The cluster uses TLS, and its common_tls_context has no validation context. Envoy then accepts every
certificate, so any host between Envoy and the server can read and change the session, passwords too.
Set validation_context with trusted_ca, and the server's name.",
        docs: "docs/tls.md",
    },
    Code {
        code: "native-module-unsupported",
        title: "this Istio has no native modules for network filters",
        text: "Istio's proxy contains Envoy's network filter for dynamic modules from 1.31 on. Istio 1.30 and older refuse
the listener with such a filter and keep the one before, or have none. Use the Wasm module there.",
        docs: "docs/native.md#which-of-the-two",
    },
];
