//! Findings about Firstword in a proxy.

use super::code::Code;

/// Where the installation is described.
const INSTALL: &str = "docs/install-istio.md";

pub(super) const CODES: &[Code] = &[
    Code {
        code: "extension-missing",
        title: "the configuration of a filter has not arrived",
        text: "Envoy discovers the filter's configuration by name and has not received it. Without a default_config Envoy
closes every connection of the chain.",
        docs: "docs/install-istio.md#when-the-module-is-missing",
    },
    Code {
        code: "extension-pending",
        title: "traffic passes uninspected, because the module is missing",
        text: "The filter's configuration or module has not arrived. Its default_config is in force, so connections pass
and nothing is counted.",
        docs: "docs/install-istio.md#when-the-module-is-missing",
    },
    Code {
        code: "extension-refused",
        title: "traffic passes uninspected, because Envoy has refused the filter's configuration",
        text: "Envoy has refused each configuration of the filter. Its default_config is in force, so connections pass and
nothing is counted. Envoy's log has the reason. The usual ones are a bad configuration and a module file
that does not exist.",
        docs: "docs/install-istio.md#a-bad-configuration",
    },
    Code {
        code: "module-image",
        title: "the image from which the module comes",
        text: "Istio's agent names the file of a module by the digest of the image's manifest. Compare it with the digest
of the image that you tested.",
        docs: INSTALL,
    },
    Code {
        code: "module-file",
        title: "the module is a file that only the pod can have",
        text: "A WasmPlugin or EnvoyFilter names a file. If the pod does not have it, Envoy refuses the filter, and without
a default_config closes every connection. Only Envoy's statistics show that: use the admin interface.",
        docs: "docs/install-istio.md#when-the-module-is-missing",
    },
    Code {
        code: "native-without-extension",
        title: "the native module has no bootstrap extension",
        text: "Without an extension of the same file in the bootstrap the filter exports no metrics, and no time-out ends a
connection. envoy/native.yaml has the extension.",
        docs: "docs/native.md",
    },
    Code {
        code: "filter-twice",
        title: "two filters of Firstword are in one chain",
        text: "Each of them counts every connection. Remove the WasmPlugin or the EnvoyFilter.",
        docs: INSTALL,
    },
    Code {
        code: "filter-behind-tcp-proxy",
        title: "the filter is behind tcp_proxy",
        text: "tcp_proxy ends a chain, so Envoy refuses the listener. Put the filter before it.",
        docs: INSTALL,
    },
    Code {
        code: "failure-policy",
        title: "what a crash of the filter does to connections",
        text: "After a crash the failure policy decides about the worker's connections: FAIL_CLOSED closes all of them,
FAIL_OPEN closes the open ones and lets new ones pass, FAIL_RELOAD loads the module again after a second.
fail_open: true, which only an EnvoyFilter can set, lets all of them go on.",
        docs: INSTALL,
    },
    Code {
        code: "module-without-digest",
        title: "the module is fetched without a digest",
        text: "A tag or a URL can name another module tomorrow. Name the module by its digest, so that only the module that
you tested runs.",
        docs: INSTALL,
    },
    Code {
        code: "proxy-header-late",
        title: "the PROXY header comes after the greeting",
        text: "Firstword sends the header before the client's first bytes, which come after the greeting. MariaDB accepts
that. Percona Server, Vitess and ProxySQL wait for the header before they greet. Envoy's own
upstream_proxy_protocol sends it at once.",
        docs: "docs/client-address.md",
    },
    Code {
        code: "proxy-header-twice",
        title: "the server gets two PROXY headers",
        text: "A rule of Firstword sends a header, and the cluster's transport socket sends one too. Remove one of them.",
        docs: "docs/client-address.md",
    },
    Code {
        code: "header-required",
        title: "clients without a PROXY header are closed, as configured",
        text: "A rule with receive.mode: required closes connections without a header. Health checks of a load balancer
often send none.",
        docs: "docs/client-address.md",
    },
    Code {
        code: "early-data-missing",
        title: "no connection is made, because tcp_proxy does not read the PROXY header",
        text: "With connect_upstream: after_header, Firstword waits for the header before Envoy connects. tcp_proxy reads
nothing before it has connected, unless it has max_early_data_bytes. Every connection ends after
receive.timeout. Set max_early_data_bytes (Envoy 1.37 and newer).",
        docs: "docs/client-address.md",
    },
    Code {
        code: "vm-shared",
        title: "two configurations share one name in one VM",
        text: "Plugins with the same name and root_id in one VM share their mode: the newer one decides for both. Give them
different names.",
        docs: "docs/configuration.md",
    },
    Code {
        code: "labels-missing",
        title: "metrics have no labels",
        text: "Envoy leaves labels in the names of the metrics unless stats_tags, or Istio's extraStatTags, name them.
Prometheus can create the labels when it scrapes.",
        docs: "docs/metrics.md",
    },
    Code {
        code: "label-renamed",
        title: "a tag has the former name of a label",
        text: "The label by is closed_by now. With the former tag, firstword_connections_closed_total has a wrong name or a
wrong label. Replace the tags by those of this version.",
        docs: "docs/metrics.md",
    },
];
