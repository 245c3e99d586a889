//! Findings about configurations and files.

use super::code::Code;

pub(super) const CODES: &[Code] = &[
    Code {
        code: "configuration",
        title: "the filter's configuration has a problem",
        text: "The filter reports the same problem in Envoy's log. A running proxy keeps the configuration before. A new
proxy runs with the defaults, or refuses the configuration if the text contains a setting that protects.",
        docs: "docs/configuration.md",
    },
    Code {
        code: "unusable-file",
        title: "a file cannot be read",
        text: "The file does not exist, is too large, or is neither YAML nor JSON. Render templates first, as in
\"helm template CHART | firstword check-config -\".",
        docs: "docs/commands.md#check-config",
    },
    Code {
        code: "no-configuration",
        title: "no file has a configuration of Firstword",
        text: "A configuration is one JSON object, or the configuration of a Wasm filter whose name, id or file name
contains firstword.",
        docs: "docs/commands.md#check-config",
    },
    Code {
        code: "rule-never-matches",
        title: "a rule matches no connection",
        text: "The listener or WasmPlugin around the filter has other ports or another direction than the rule's match.",
        docs: "docs/commands.md#check-config",
    },
    Code {
        code: "no-trusted-networks",
        title: "each PROXY header closes its connection",
        text: "receive.mode is optional and no network is trusted. List the networks of the proxies that send headers in
trusted_networks.",
        docs: "docs/commands.md#check-config",
    },
    Code {
        code: "skipped",
        title: "a file or filter is not checked",
        text: "The file has no configuration of Firstword, or the Wasm filter in it belongs to another project.",
        docs: "docs/commands.md#check-config",
    },
];
