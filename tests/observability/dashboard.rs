//! The dashboard for Grafana, generated from the table of panels here. `FIRSTWORD_BLESS=1` writes it. The schema is that of
//! Grafana's own package, which `scripts/grafana.sh` compiles.

use std::io::Write as _;
use std::process::Command;

use firstword::mysql::wire::errno::SYMBOLS;
use firstword_testing::generated::assert_file;
use serde_json::{Value, json};

use crate::server::tool;

const PATH: &str = "envoy/observability/grafana/firstword.json";
const DOCS: &str = "https://github.com/firstword/firstword/blob/main/docs/";

/// Matches the series of a connection by the variables of the dashboard.
const CONNECTION: &str =
    r#"namespace=~"$namespace",pod=~"$workload(-.*)?",direction=~"$direction",destination=~"$destination""#;
/// Matches the series of a proxy, which have no direction and no destination.
const PROXY: &str = r#"namespace=~"$namespace",pod=~"$workload(-.*)?""#;

/// The workload of a pod: its name without what a ReplicaSet and the pod itself add.
const WORKLOAD: &str = "^(.+?)(-[a-z0-9]{6,10})?(-[a-z0-9]{5}|-[0-9]+)?$";

/// Width of a row in Grafana's grid.
const WIDTH: u64 = 24;

struct Panel {
    title: &'static str,
    description: &'static str,
    /// Page and section with more.
    docs: &'static str,
    unit: &'static str,
    /// Expressions with `CONNECTION` or `PROXY` for the variables, each with its legend.
    targets: &'static [(&'static str, &'static str)],
    /// For a single value: its colours, each from a value on. The first is for all values below the second.
    steps: Option<&'static [(f64, &'static str)]>,
}

const fn graph(
    title: &'static str,
    unit: &'static str,
    docs: &'static str,
    description: &'static str,
    targets: &'static [(&'static str, &'static str)],
) -> Panel {
    Panel { title, description, docs, unit, targets, steps: None }
}

/// Panels with one value each: whether all is well, at a glance.
const OVERVIEW: &[Panel] = &[
    Panel {
        title: "Queries per second",
        description: "COM_QUERY and COM_STMT_EXECUTE of all clients that the filter can read.",
        docs: "metrics.md",
        unit: "reqps",
        targets: &[(
            r#"sum(rate(firstword_commands_total{CONNECTION,command=~"query|stmt_execute"}[$__rate_interval]))"#,
            "",
        )],
        steps: Some(&[(0.0, "green")]),
    },
    Panel {
        title: "Errors",
        description: "Share of the commands that end with an error.",
        docs: "alerts.md#firstworderrorstorm",
        unit: "percentunit",
        targets: &[(
            "(sum(rate(firstword_errors_total{CONNECTION}[$__rate_interval])) or vector(0)) \
             / sum(rate(firstword_commands_total{CONNECTION}[$__rate_interval]))",
            "",
        )],
        steps: Some(&[(0.0, "green"), (0.01, "yellow"), (0.05, "red")]),
    },
    Panel {
        title: "95th percentile, slowest destination",
        description: "One command in twenty takes longer, at the destination where that is worst.",
        docs: "alerts.md#firstwordcommandsslow",
        unit: "s",
        targets: &[(
            "max(histogram_quantile(0.95, sum by (destination, le) \
             (rate(firstword_command_duration_seconds_bucket{CONNECTION}[$__rate_interval]))))",
            "",
        )],
        steps: Some(&[(0.0, "green"), (0.1, "yellow"), (1.0, "red")]),
    },
    Panel {
        title: "Open connections",
        description: "Connections that are open now.",
        docs: "metrics.md",
        unit: "short",
        targets: &[("sum(firstword_connections_active{CONNECTION})", "")],
        steps: Some(&[(0.0, "green")]),
    },
    Panel {
        title: "Visible connections",
        description: "Share of the connections of the chosen time whose commands the filter can read. All panels about commands \
                      describe only these. TLS between client and server hides the others.",
        docs: "tls.md",
        unit: "percentunit",
        targets: &[(
            r#"1 - (sum(increase(firstword_opaque_total{CONNECTION,reason!="configured"}[$__range])) or vector(0)) / sum(increase(firstword_connections_total{CONNECTION}[$__range]))"#,
            "",
        )],
        steps: Some(&[(0.0, "red"), (0.5, "yellow"), (0.9, "green")]),
    },
    Panel {
        title: "Connections that hang",
        description: "Connections that wait in listener filters now, before any network filter. A value that stays above 0 on \
                      the port of a database is a hang.",
        docs: "alerts.md#serverfirstporthangs",
        unit: "short",
        targets: &[("sum(envoy_listener_downstream_pre_cx_active{PROXY})", "")],
        steps: Some(&[(0.0, "green"), (1.0, "yellow"), (10.0, "red")]),
    },
    Panel {
        title: "Rejected configurations",
        description: "Plugins that run with the defaults, because their configuration has problems. No rule applies there.",
        docs: "alerts.md#firstwordconfigrejected",
        unit: "short",
        targets: &[("sum(firstword_config_rejected{PROXY})", "")],
        steps: Some(&[(0.0, "green"), (1.0, "red")]),
    },
];

/// Rows of the dashboard after the overview. The first four are for those who work with databases, the others for those who work
/// with proxies.
const ROWS: &[(&str, &[Panel])] = &[
    (
        "Traffic",
        &[
            graph(
                "Commands",
                "ops",
                "metrics.md",
                "Commands the clients send, by kind.",
                &[(
                    "sum by (command) (rate(firstword_commands_total{CONNECTION}[$__rate_interval]))",
                    "{{command}}",
                )],
            ),
            graph(
                "Statements",
                "ops",
                "metrics.md",
                "Statements that got a response, by their verb.",
                &[(
                    "sum by (verb) (rate(firstword_statements_total{CONNECTION}[$__rate_interval]))",
                    "{{verb}}",
                )],
            ),
            graph(
                "Bytes",
                "Bps",
                "metrics.md",
                "Bytes passed, by who sent them; PROXY headers left out.",
                &[(
                    "sum by (sender) (rate(firstword_bytes_total{CONNECTION}[$__rate_interval]))",
                    "{{sender}}",
                )],
            ),
            graph(
                "Rows",
                "ops",
                "metrics.md",
                "Rows in result sets, and rows changed.",
                &[
                    (
                        "sum by (destination) (rate(firstword_rows_total{CONNECTION}[$__rate_interval]))",
                        "rows {{destination}}",
                    ),
                    (
                        "sum by (destination) (rate(firstword_affected_rows_total{CONNECTION}[$__rate_interval]))",
                        "affected {{destination}}",
                    ),
                ],
            ),
            graph(
                "Statements without an index, slow, with warnings",
                "ops",
                "metrics.md",
                "From the flags in the server's responses.",
                &[
                    (
                        "sum by (destination) (rate(firstword_no_index_used_total{CONNECTION}[$__rate_interval]))",
                        "no index {{destination}}",
                    ),
                    (
                        "sum by (destination) (rate(firstword_slow_flag_total{CONNECTION}[$__rate_interval]))",
                        "slow {{destination}}",
                    ),
                    (
                        "sum by (destination) (rate(firstword_warnings_total{CONNECTION}[$__rate_interval]))",
                        "warnings {{destination}}",
                    ),
                ],
            ),
        ],
    ),
    (
        "Latency",
        &[
            graph(
                "Commands: median, 95th and 99th percentile",
                "s",
                "metrics.md",
                "From a command's first packet to the last packet of its response.",
                &[
                    (
                        "histogram_quantile(0.5, sum by (destination, le) (rate(firstword_command_duration_seconds_bucket{CONNECTION}[$__rate_interval])))",
                        "p50 {{destination}}",
                    ),
                    (
                        "histogram_quantile(0.95, sum by (destination, le) (rate(firstword_command_duration_seconds_bucket{CONNECTION}[$__rate_interval])))",
                        "p95 {{destination}}",
                    ),
                    (
                        "histogram_quantile(0.99, sum by (destination, le) (rate(firstword_command_duration_seconds_bucket{CONNECTION}[$__rate_interval])))",
                        "p99 {{destination}}",
                    ),
                ],
            ),
            graph(
                "95th percentile by command",
                "s",
                "alerts.md#firstwordcommandsslow",
                "One command in twenty takes longer. With several destinations this mixes them: choose one.",
                &[(
                    "histogram_quantile(0.95, sum by (command, le) (rate(firstword_command_duration_seconds_bucket{CONNECTION}[$__rate_interval])))",
                    "{{command}}",
                )],
            ),
            graph(
                "Greeting and handshake, 95th percentile",
                "s",
                "metrics.md",
                "From the start of a connection to the server's greeting, and to its decision about the client.",
                &[
                    (
                        "histogram_quantile(0.95, sum by (destination, le) (rate(firstword_greeting_duration_seconds_bucket{CONNECTION}[$__rate_interval])))",
                        "greeting {{destination}}",
                    ),
                    (
                        "histogram_quantile(0.95, sum by (destination, le) (rate(firstword_handshake_duration_seconds_bucket{CONNECTION}[$__rate_interval])))",
                        "handshake {{destination}}",
                    ),
                ],
            ),
        ],
    ),
    (
        "Errors",
        &[
            graph(
                "Commands that end with an error",
                "ops",
                "alerts.md#firstworderrorstorm",
                "By MySQL's error number.",
                &[(
                    "sum by (errno) (rate(firstword_errors_total{CONNECTION}[$__rate_interval]))",
                    "{{errno}}",
                )],
            ),
            graph(
                "Clients refused in the handshake",
                "ops",
                "alerts.md#firstwordhandshakeerrors",
                "By error and authentication plugin.",
                &[(
                    "sum by (errno, plugin) (rate(firstword_handshake_errors_total{CONNECTION}[$__rate_interval]))",
                    "{{errno}} {{plugin}}",
                )],
            ),
            graph(
                "Errors before the greeting, and unsolicited errors",
                "ops",
                "alerts.md#firstwordserverrefusesconnections",
                "1040 too many connections, 1129 host blocked; 4031 and 1927 are the server ending a connection.",
                &[
                    (
                        "sum by (errno) (rate(firstword_pre_handshake_errors_total{CONNECTION}[$__rate_interval]))",
                        "no greeting {{errno}}",
                    ),
                    (
                        "sum by (errno) (rate(firstword_server_notices_total{CONNECTION}[$__rate_interval]))",
                        "notice {{errno}}",
                    ),
                ],
            ),
        ],
    ),
    (
        "Connections",
        &[
            graph(
                "Opened",
                "ops",
                "metrics.md",
                "By the protocol that they carry.",
                &[(
                    "sum by (protocol) (rate(firstword_connections_total{CONNECTION}[$__rate_interval]))",
                    "{{protocol}}",
                )],
            ),
            graph(
                "Open",
                "short",
                "metrics.md",
                "By the protocol that they carry.",
                &[("sum by (protocol) (firstword_connections_active{CONNECTION})", "{{protocol}}")],
            ),
            graph(
                "Closed",
                "ops",
                "metrics.md",
                "By how far they had come and who ended them.",
                &[(
                    "sum by (phase, closed_by) (rate(firstword_connections_closed_total{CONNECTION}[$__rate_interval]))",
                    "{{phase}} by {{closed_by}}",
                )],
            ),
            graph(
                "Commands in flight and stalled",
                "short",
                "alerts.md#firstwordcommandsstalled",
                "Stalled: older than metrics.stall without a complete response.",
                &[
                    (
                        "sum by (destination) (firstword_commands_in_flight{CONNECTION})",
                        "in flight {{destination}}",
                    ),
                    (
                        "sum by (destination) (firstword_commands_stalled{CONNECTION})",
                        "stalled {{destination}}",
                    ),
                ],
            ),
            graph(
                "Open transactions and prepared statements",
                "short",
                "alerts.md#firstwordtransactionsstayopen",
                "Transactions that are open all the time hold locks.",
                &[
                    (
                        "sum by (destination) (firstword_transactions_open{CONNECTION})",
                        "transactions {{destination}}",
                    ),
                    (
                        "sum by (destination) (firstword_prepared_statements_open{CONNECTION})",
                        "prepared {{destination}}",
                    ),
                ],
            ),
            graph(
                "Handshakes",
                "ops",
                "metrics.md",
                "By their result. aborted: the client left before its login, as health checks do.",
                &[(
                    "sum by (result) (rate(firstword_handshakes_total{CONNECTION}[$__rate_interval]))",
                    "{{result}}",
                )],
            ),
        ],
    ),
    (
        "Server-first",
        &[
            graph(
                "Servers that do not greet",
                "ops",
                "alerts.md#firstwordgreetingtimeouts",
                "Connections on which the server sent nothing for greeting_timeout.",
                &[(
                    "sum by (destination) (rate(firstword_greeting_timeouts_total{CONNECTION}[$__rate_interval]))",
                    "{{destination}}",
                )],
            ),
            graph(
                "Who speaks first",
                "ops",
                "metrics.md",
                "Servers by their protocol, clients by what they begin with.",
                &[
                    (
                        "sum by (protocol) (rate(firstword_server_first_detected_total{CONNECTION}[$__rate_interval]))",
                        "server: {{protocol}}",
                    ),
                    (
                        "sum by (seen) (rate(firstword_client_first_total{CONNECTION}[$__rate_interval]))",
                        "client: {{seen}}",
                    ),
                ],
            ),
            graph(
                "Sockets in listener filters",
                "short",
                "alerts.md#serverfirstporthangs",
                "Those that stay hang before any network filter sees them.",
                &[(
                    "sum by (envoy_listener_address) (envoy_listener_downstream_pre_cx_active{PROXY})",
                    "{{envoy_listener_address}}",
                )],
            ),
        ],
    ),
    (
        "PROXY protocol",
        &[
            graph(
                "Headers received",
                "ops",
                "alerts.md#firstwordproxyheadersrefused",
                "By version and result.",
                &[(
                    "sum by (format, result) (rate(firstword_proxy_protocol_received_total{CONNECTION}[$__rate_interval]))",
                    "{{format}} {{result}}",
                )],
            ),
            graph(
                "Headers sent",
                "ops",
                "configuration.md#proxy-protocol",
                "To servers, by version.",
                &[(
                    "sum by (format) (rate(firstword_proxy_protocol_sent_total{CONNECTION}[$__rate_interval]))",
                    "{{format}}",
                )],
            ),
        ],
    ),
    (
        "Hazards",
        &[
            graph(
                "Passwords without TLS",
                "ops",
                "hazards.md",
                "Full authentications of caching_sha2_password on a connection without TLS.",
                &[(
                    "sum by (destination) (rate(firstword_plaintext_full_auth_total{CONNECTION}[$__rate_interval]))",
                    "{{destination}}",
                )],
            ),
            graph(
                "Requests for files of clients",
                "ops",
                "hazards.md#files-that-a-server-asks-for",
                "LOAD DATA LOCAL: the server asks, the client sends.",
                &[(
                    "sum by (destination) (rate(firstword_local_infile_total{CONNECTION}[$__rate_interval]))",
                    "{{destination}}",
                )],
            ),
            graph(
                "Sessions that are not visible",
                "ops",
                "tls.md",
                "By the reason. TLS between client and server hides commands:.",
                &[(
                    "sum by (reason) (rate(firstword_opaque_total{CONNECTION}[$__rate_interval]))",
                    "{{reason}}",
                )],
            ),
            graph(
                "Hazards by kind",
                "ops",
                "hazards.md",
                "Problems of clients and servers, by kind. Envoy's log has the first of each with the fix: event=hazard.",
                &[
                    (
                        "sum by (kind) (rate(firstword_hazards_total{CONNECTION}[$__rate_interval]))",
                        "{{kind}}",
                    ),
                    (
                        "sum by (reason) (rate(firstword_protection_lost_total{CONNECTION}[$__rate_interval]))",
                        "protection lost: {{reason}}",
                    ),
                ],
            ),
            graph(
                "Split responses to COM_STMT_PREPARE",
                "ops",
                "alerts.md#firstwordspliteof",
                "If a response is split at its end and not held, Connector/J 6.0.4 to 8.0.31 hangs. The setting hold_split_eof holds it.",
                &[
                    (
                        "sum by (destination) (rate(firstword_prepare_eof_splits_total{CONNECTION}[$__rate_interval]))",
                        "split {{destination}}",
                    ),
                    (
                        "sum by (destination) (rate(firstword_prepare_eof_held_total{CONNECTION}[$__rate_interval]))",
                        "held {{destination}}",
                    ),
                    (
                        "sum by (destination) (rate(firstword_prepare_eof_lost_total{CONNECTION}[$__rate_interval]))",
                        "lost {{destination}}",
                    ),
                ],
            ),
            graph(
                "Connector/J clients that hang on a split response",
                "ops",
                "alerts.md#firstwordspliteof",
                "By their connection attributes. If the server takes no attributes, all its clients.",
                &[(
                    "sum by (destination) (rate(firstword_eof_hazard_clients_total{CONNECTION}[$__rate_interval]))",
                    "{{destination}}",
                )],
            ),
        ],
    ),
    (
        "Filter health",
        &[
            graph(
                "Heartbeat",
                "ops",
                "alerts.md#firstwordfilterstopped",
                "Ticks of all VMs: two a second for each worker, and two VMs more.",
                &[(
                    "sum by (namespace, pod, instance) (rate(firstword_heartbeat_total{PROXY}[$__rate_interval]))",
                    "{{pod}} {{instance}}",
                )],
            ),
            graph(
                "Memory of the VMs",
                "bytes",
                "memory.md",
                "Without the memory of V8 itself.",
                &[
                    (
                        "sum by (namespace, pod, instance) (firstword_vm_memory_bytes{PROXY})",
                        "{{pod}} {{instance}}",
                    ),
                    (
                        "sum by (namespace, pod, instance) (firstword_connection_state_bytes{PROXY})",
                        "{{pod}} {{instance}}, state of connections",
                    ),
                ],
            ),
            graph(
                "Series and overflow",
                "short",
                "alerts.md#firstwordseriesoverflow",
                "Overflow: counts that went to the label value other.",
                &[
                    (
                        "sum by (namespace, pod, instance) (firstword_series{PROXY})",
                        "series {{pod}} {{instance}}",
                    ),
                    (
                        "sum by (namespace, pod, instance) (increase(firstword_series_overflow_total{PROXY}[$__rate_interval]))",
                        "overflow {{pod}} {{instance}}",
                    ),
                ],
            ),
            graph(
                "Versions",
                "short",
                "alerts.md#firstwordtwoversions",
                "Proxies by the version of the filter.",
                &[("count by (version, commit) (firstword_build_info{PROXY})", "{{version}} {{commit}}")],
            ),
        ],
    ),
];

/// The data source that the user chooses.
fn source() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

fn targets(panel: &Panel) -> Vec<Value> {
    let target = |(index, (expression, legend)): (usize, &(&str, &str))| {
        json!({
            "refId": char::from(b'A' + u8::try_from(index).unwrap()).to_string(),
            "datasource": source(),
            "expr": expression.replace("CONNECTION", CONNECTION).replace("PROXY", PROXY),
            "legendFormat": if legend.is_empty() { "__auto" } else { legend },
        })
    };
    panel.targets.iter().enumerate().map(target).collect()
}

/// Names of series that begin with an error number get MySQL's symbol.
fn symbols() -> Vec<Value> {
    let name = |(number, symbol): &(u16, &str)| {
        json!({
            "matcher": {"id": "byRegexp", "options": format!("/\\b{number}\\b/")},
            "properties": [{"id": "displayName", "value": format!("{number} {symbol} ${{__field.labels.plugin}}")}],
        })
    };
    SYMBOLS.iter().map(name).collect()
}

fn panel(panel: &Panel, id: u64, [x, y, w, h]: [u64; 4]) -> Value {
    let mut defaults = json!({"unit": panel.unit, "min": 0});
    let has_errors = panel.targets.iter().any(|(_, legend)| legend.contains("errno"));
    let options = if let Some(steps) = panel.steps {
        let step = |(index, (from, colour)): (usize, &(f64, &str))| json!({"value": if index == 0 { Value::Null } else { json!(from) }, "color": colour});
        let steps: Vec<_> = steps.iter().enumerate().map(step).collect();
        defaults["thresholds"] = json!({"mode": "absolute", "steps": steps});
        defaults["noValue"] = json!("no traffic");
        json!({"colorMode": "background", "graphMode": "area", "justifyMode": "auto", "textMode": "auto", "wideLayout": true, "showPercentChange": false, "percentChangeColorMode": "standard", "orientation": "auto", "reduceOptions": {"calcs": ["lastNotNull"], "values": false}})
    } else {
        defaults["custom"] = json!({"fillOpacity": 10, "showPoints": "never"});
        json!({"legend": {"showLegend": true, "displayMode": "list", "placement": "bottom", "calcs": []}, "tooltip": {"mode": "multi", "sort": "desc"}})
    };
    json!({
        "id": id,
        "type": if panel.steps.is_some() { "stat" } else { "timeseries" },
        "title": panel.title,
        "description": panel.description,
        "datasource": source(),
        "gridPos": {"x": x, "y": y, "w": w, "h": h},
        "links": [{"title": "What to do", "url": format!("{DOCS}{}", panel.docs), "targetBlank": true, "type": "link", "icon": "doc", "tags": [], "tooltip": "", "asDropdown": false, "includeVars": false, "keepTime": false}],
        "fieldConfig": {"defaults": defaults, "overrides": if has_errors { symbols() } else { Vec::new() }},
        "options": options,
        "targets": targets(panel),
    })
}

fn row(title: &str, id: u64, y: u64) -> Value {
    json!({"id": id, "type": "row", "title": title, "collapsed": false, "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1}, "panels": []})
}

const SENTENCE: &str = "**Visible connections** is the share of the connections whose commands the filter can read. If it is 18 %, \
    the panels about commands, errors and latency describe 18 % of the connections. The usual reason is TLS between client and \
    server, which many drivers choose by themselves: [what TLS hides, and what to do](https://github.com/firstword/firstword/blob/main/docs/tls.md).";

fn panels() -> Vec<Value> {
    let mut panels = vec![row("Overview", 1, 0)];
    let mut id = 2;
    let mut y = 1;
    // Four and three values in two lines, and the sentence beside the second line.
    for (index, each) in OVERVIEW.iter().enumerate() {
        let index = u64::try_from(index).unwrap();
        let at = [index % 4 * 6, y + index / 4 * 4, 6, 4];
        panels.push(panel(each, id, at));
        id += 1;
    }
    panels.push(json!({
        "id": id, "type": "text", "title": "How much of the traffic do these panels describe?",
        "gridPos": {"x": 18, "y": 5, "w": 6, "h": 4}, "options": {"mode": "markdown", "content": SENTENCE},
    }));
    id += 1;
    y += 8;
    for (title, of) in ROWS {
        panels.push(row(title, id, y));
        id += 1;
        y += 1;
        // At most three panels in a line, which share its width.
        for line in of.chunks(3) {
            let width = WIDTH / u64::try_from(line.len()).unwrap();
            for (index, each) in line.iter().enumerate() {
                panels.push(panel(each, id, [width * u64::try_from(index).unwrap(), y, width, 8]));
                id += 1;
            }
            y += 8;
        }
    }
    panels
}

fn query_variable(name: &str, label: &str, query: &str, regex: &str) -> Value {
    json!({
        "name": name, "label": label, "type": "query", "datasource": source(),
        "query": {"query": query, "refId": name}, "definition": query, "regex": regex,
        "includeAll": true, "allValue": ".*", "multi": true, "refresh": 2, "sort": 1, "hide": 0,
        "current": {"text": ["All"], "value": ["$__all"]},
    })
}

fn dashboard() -> Value {
    let option =
        |text: &str, value: &str, selected: bool| json!({"text": text, "value": value, "selected": selected});
    // A connection that passes two sidecars with the filter is counted in both, once in each direction.
    let directions = [option("outbound", "outbound|unspecified", true), option("inbound", "inbound", false)];
    json!({
        "uid": "firstword", "title": "Firstword", "tags": ["envoy", "mysql"], "timezone": "browser",
        "schemaVersion": 38, "version": 1, "editable": true, "graphTooltip": 1, "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "annotations": {"list": [{
            "name": "Alerts", "datasource": source(), "enable": true, "hide": false, "iconColor": "red",
            "expr": r#"ALERTS{alertstate="firing",alertname=~"Firstword.*|ServerFirstPortHangs|ClientsLeaveListenerFilters"}"#,
        }]},
        "links": [{"title": "Runbook", "type": "link", "url": format!("{DOCS}alerts.md"), "targetBlank": true, "icon": "doc", "tags": [], "tooltip": "", "asDropdown": false, "includeVars": false, "keepTime": false}],
        "templating": {"list": [
            {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {"text": "default", "value": "default"}, "hide": 0},
            query_variable("namespace", "Namespace", "label_values(firstword_connections_total, namespace)", ""),
            query_variable("workload", "Workload", r#"label_values(firstword_connections_total{namespace=~"$namespace"}, pod)"#, &format!("/{WORKLOAD}/")),
            {"name": "direction", "label": "Direction", "type": "custom", "query": "outbound : outbound|unspecified, inbound : inbound", "options": directions, "current": directions[0], "multi": false, "includeAll": false, "hide": 0},
            query_variable("destination", "Destination", r#"label_values(firstword_connections_total{namespace=~"$namespace",direction=~"$direction"}, destination)"#, ""),
        ]},
        "panels": panels(),
    })
}

#[test]
fn the_dashboard_is_generated() {
    assert_file(PATH, |_| format!("{:#}\n", dashboard()));
}

/// Grafana's package decodes the file without unknown fields, and checks the values that it restricts.
#[test]
fn grafana_accepts_the_dashboard() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(dashboard().to_string().as_bytes()).unwrap();
    let output = Command::new(tool("grafana-schema")).arg(file.path()).output().unwrap();
    let problems = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&problems));
}

#[test]
fn each_panel_has_a_description_and_a_title_of_its_own_in_its_row() {
    for (row, panels) in ROWS.iter().chain([&("Overview", OVERVIEW)]) {
        let titles: std::collections::BTreeSet<_> = panels.iter().map(|panel| panel.title).collect();
        assert_eq!(titles.len(), panels.len(), "{row}");
        for panel in *panels {
            assert!(panel.description.ends_with('.'), "{}", panel.title);
        }
    }
}

#[test]
fn the_name_of_a_pod_contains_its_workload() {
    let workload = regex::Regex::new(WORKLOAD).unwrap();
    for (pod, name) in [
        ("app-6b7f9c8d5c-x2k4z", "app"),
        ("my-orders-5d8f7c9b6d-abcde", "my-orders"),
        ("shop-api-v2-7f9c8d5cb4-zz9xk", "shop-api-v2"),
        ("mysql-0", "mysql"),
    ] {
        assert_eq!(&workload.captures(pod).unwrap()[1], name);
    }
}
