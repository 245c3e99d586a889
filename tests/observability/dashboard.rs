//! The dashboard for Grafana, generated from the table in `panels.rs`. `FIRSTWORD_BLESS=1` writes it. The schema is that of
//! Grafana's own package, which `scripts/grafana.sh` compiles.

use std::io::Write as _;
use std::process::Command;

use firstword::mysql::wire::errno::SYMBOLS;
use firstword_testing::generated::assert_file;
use serde_json::{Value, json};

use crate::panels::{OVERVIEW, Panel, ROWS};
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
