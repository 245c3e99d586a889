//! Checks of `envoy/docker-compose.yaml` without Docker: images are pinned and variable, files exist, addresses and versions
//! agree with other files. A test shows that each rule can fail. `make compose-test` runs the set.

// A test reports through a panic.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;
use serde_json::{Value, json};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of `envoy/`.
fn text(name: &str) -> String {
    fs::read_to_string(root().join("envoy").join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn yaml(text: &str) -> Value {
    let mut value: serde_norway::Value = serde_norway::from_str(text).expect("YAML");
    value.apply_merge().expect("merges");
    serde_json::to_value(value).expect("JSON")
}

fn set() -> Value {
    yaml(&text("docker-compose.yaml"))
}

/// The elements of a list. Empty if the value is not a list.
fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn str(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The name and the default in `${NAME:-default}`.
fn variable(text: &str) -> Option<(String, String)> {
    let pattern = Regex::new(r"^\$\{([A-Z_]+):-([^${}]*)\}$").expect("a pattern");
    pattern.captures(text).map(|found| (found[1].to_owned(), found[2].to_owned()))
}

/// Every variable in a value, with its default.
fn variables(value: &Value) -> BTreeSet<(String, String)> {
    let pattern = Regex::new(r"\$\{([A-Z_]+):-([^${}]*)\}").expect("a pattern");
    let text = value.to_string();
    pattern.captures_iter(&text).map(|found| (found[1].to_owned(), found[2].to_owned())).collect()
}

/// True if the image has a complete version, which does not change.
fn is_pinned(image: &str) -> bool {
    Regex::new(r"^[a-z./-]+:v?\d+\.\d+\.\d+(-[a-z-]+)?$").expect("a pattern").is_match(image)
}

fn image_problems(name: &str, service: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    let built = service.get("build");
    let base = built.map(|build| &build["args"]["PYTHON_IMAGE"]);
    for image in [&service["image"]].into_iter().chain(base) {
        match variable(str(image)) {
            Some((variable, image)) if variable.ends_with("_IMAGE") => {
                let ours = built.is_some() && variable == "CLIENT_IMAGE";
                if !ours && !is_pinned(&image) {
                    problems.push(format!("{name}: {image} is not pinned"));
                }
            }
            _ => problems.push(format!("{name}: {image} is not ${{NAME_IMAGE:-default}}")),
        }
    }
    problems
}

/// The default source of a bind mount.
fn source(volume: &Value) -> PathBuf {
    let source = str(&volume["source"]);
    root().join("envoy").join(variable(source).map_or(source.to_owned(), |(_, default)| default))
}

fn volume_problems(name: &str, service: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    for volume in list(&service["volumes"]) {
        let source = source(volume);
        let built = source.ends_with("target/firstword.wasm");
        if !built && !source.exists() {
            problems.push(format!("{name}: {} does not exist", source.display()));
        }
        if volume["read_only"] != true || volume["bind"]["create_host_path"] != false {
            problems.push(format!("{name}: {} can be written or made", source.display()));
        }
    }
    problems
}

fn port_problems(name: &str, service: &Value) -> Vec<String> {
    let pattern =
        Regex::new(r"^\$\{BIND_ADDRESS:-127\.0\.0\.1\}:\$\{[A-Z]+_PORT:-\d+\}:\d+$").expect("a pattern");
    let ports = list(&service["ports"]).filter(|port| !pattern.is_match(str(port)));
    ports.map(|port| format!("{name}: {port} is not on loopback, or no variable")).collect()
}

fn health_problems(name: &str, service: &Value, services: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    if name != "test" && service["healthcheck"]["test"].as_array().is_none_or(Vec::is_empty) {
        problems.push(format!("{name} has no health check"));
    }
    for (other, how) in service["depends_on"].as_object().into_iter().flatten() {
        if services.get(other).is_none() || how["condition"] != "service_healthy" {
            problems.push(format!("{name} does not wait until {other} is healthy"));
        }
    }
    problems
}

/// All problems of a set.
fn problems(set: &Value) -> Vec<String> {
    let services = set["services"].as_object().expect("services");
    let each = |(name, service): (&String, &Value)| {
        [
            image_problems(name, service),
            volume_problems(name, service),
            port_problems(name, service),
            health_problems(name, service, &set["services"]),
        ]
        .concat()
    };
    services.iter().flat_map(each).collect()
}

#[test]
fn images_are_pinned_files_exist_and_ports_are_on_loopback() {
    assert_eq!(problems(&set()), Vec::<String>::new());
}

#[test]
fn each_rule_can_fail() {
    let broken: [(&str, Value, &str); 8] = [
        ("/services/envoy/image", json!("envoyproxy/envoy:v1.40.0"), "is not ${NAME_IMAGE:-default}"),
        ("/services/envoy/image", json!("${ENVOY_IMAGE:-envoyproxy/envoy:v1.40-latest}"), "is not pinned"),
        ("/services/client/build/args/PYTHON_IMAGE", json!("${PYTHON_IMAGE:-python:3.14}"), "is not pinned"),
        ("/services/haproxy/volumes/0/source", json!("compose/no.cfg"), "does not exist"),
        ("/services/haproxy/volumes/0/bind/create_host_path", json!(true), "can be written or made"),
        ("/services/haproxy/ports/0", json!("3306:3306"), "is not on loopback"),
        ("/services/haproxy/healthcheck", json!({}), "has no health check"),
        ("/services/haproxy/depends_on/envoy/condition", json!("service_started"), "does not wait"),
    ];
    for (pointer, value, expected) in broken {
        let mut set = set();
        *set.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
        let found = problems(&set);
        assert!(matches!(found.as_slice(), [problem] if problem.contains(expected)), "{pointer}: {found:?}");
    }
}

/// Published ports differ, and the table of docs/compose.md has every variable with its default.
#[test]
fn ports_differ_and_variables_are_documented() {
    let variables = variables(&set());
    let ports: Vec<_> = variables.iter().filter(|(name, _)| name.ends_with("_PORT")).collect();
    let numbers: BTreeSet<_> = ports.iter().map(|(_, number)| number).collect();
    assert_eq!(numbers.len(), ports.len(), "{ports:?}");

    let readme = text("../docs/compose.md");
    let rows = Regex::new(r"(?m)^\| `([A-Z_]+)` \| `([^`]*)` \|").expect("a pattern");
    let documented: BTreeSet<_> =
        rows.captures_iter(&readme).map(|row| (row[1].to_owned(), row[2].to_owned())).collect();
    assert_eq!(documented, variables);
}

#[test]
fn envoy_has_the_version_of_the_tests() {
    let script = fs::read_to_string(root().join("scripts/tools.sh")).expect("scripts/tools.sh");
    let pinned = Regex::new(r"(?m)^pinned=(.*)$").expect("a pattern").captures(&script).expect("a version");
    let image = format!("${{ENVOY_IMAGE:-envoyproxy/envoy:v{}}}", &pinned[1]);
    assert_eq!(set()["services"]["envoy"]["image"], image);
}

/// If no image can be pulled, only Grafana is missing.
#[test]
fn each_image_has_a_stand_in() {
    let script = fs::read_to_string(root().join("scripts/standins.sh")).expect("scripts/standins.sh");
    let has_none = |(name, image): &(String, String)| {
        let repository = image.split(':').next().unwrap();
        name.ends_with("_IMAGE") && !script.contains(&format!("\n    {repository}:*) "))
    };
    let without: Vec<_> =
        variables(&set()).into_iter().filter(has_none).map(|(variable, _)| variable).collect();
    assert_eq!(without, ["CLIENT_IMAGE", "GRAFANA_IMAGE"]);
}

/// The trusted networks are those of the set. Each address is in two files.
#[test]
fn the_networks_of_the_set_are_trusted() {
    let set = set();
    let subnet = |name: &str| str(&set["networks"][name]["ipam"]["config"][0]["subnet"]).to_owned();
    let trusted = format!(r#""trusted_networks": ["{}"]"#, subnet("proxies"));
    assert_eq!(text("compose/envoy.yaml").matches("trusted_networks").count(), 1);
    assert!(text("compose/envoy.yaml").contains(&trusted), "{trusted}");
    let argument = json!(format!("--proxy-protocol-networks={}", subnet("databases")));
    assert!(list(&set["services"]["mariadb"]["command"]).any(|given| *given == argument), "{argument}");

    let in_proxies = set["services"].as_object().expect("services").iter().filter(|(_, service)| {
        let networks = &service["networks"];
        networks.get("proxies").is_some() || list(networks).any(|network| network == "proxies")
    });
    let names: Vec<_> = in_proxies.map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["envoy", "haproxy"]);
}

/// Containers connect to the ports on which Envoy listens.
#[test]
fn other_files_use_the_ports_of_envoy() {
    let bootstrap = yaml(&text("compose/envoy.yaml"));
    let port = |listener: &Value| listener["address"]["socket_address"]["port_value"].clone();
    let listeners = list(&bootstrap["static_resources"]["listeners"]);
    let ports: Vec<_> =
        listeners.map(|listener| (str(&listener["name"]).to_owned(), port(listener))).collect();
    let expected = [("mariadb", 3307), ("mysql", 3308), ("behind-haproxy", 3309)];
    assert_eq!(ports, expected.map(|(name, port)| (name.to_owned(), json!(port))));
    assert_eq!(port(&bootstrap["admin"]), 9901);

    let set = set();
    let published =
        list(&set["services"]["envoy"]["ports"]).map(|port| str(port).rsplit_once(':').unwrap().1);
    assert_eq!(published.collect::<Vec<_>>(), ["3307", "3308", "9901"]);
    assert!(text("compose/haproxy.cfg").contains("server envoy envoy.proxies:3309 send-proxy-v2 "));
    let traffic = text("compose/client/traffic.py");
    assert!(traffic.contains(r#"ROUTES = [("envoy", 3307), ("envoy", 3308), ("haproxy", 3306)]"#));
}

/// The target of a service's mount.
fn mount_target(set: &Value, service: &str, source: &str) -> String {
    let mut volumes = list(&set["services"][service]["volumes"]);
    let volume = volumes.find(|volume| volume["source"] == source);
    let volume = volume.unwrap_or_else(|| panic!("no mount of {source}"));
    str(&volume["target"]).to_owned()
}

#[test]
fn prometheus_has_the_rules_and_scrapes_envoy() {
    let set = set();
    let configuration = yaml(&text("compose/prometheus.yaml"));
    assert_eq!(configuration["scrape_configs"][0]["static_configs"][0]["targets"], json!(["envoy:9901"]));
    let shipped = yaml(&text("observability/prometheus.yaml"));
    assert_eq!(configuration["rule_files"], shipped["rule_files"]);
    assert_eq!(mount_target(&set, "prometheus", "compose/prometheus.yaml"), "/etc/prometheus/prometheus.yml");
    for file in list(&configuration["rule_files"]) {
        let file = str(file);
        let target = mount_target(&set, "prometheus", &format!("observability/{file}"));
        assert_eq!(target, format!("/etc/prometheus/{file}"));
    }
}

#[test]
fn grafana_has_the_dashboard_and_starts_by_default() {
    let set = set();
    let grafana = &set["services"]["grafana"];
    let dashboards = mount_target(&set, "grafana", "observability/grafana");
    let provider = yaml(&text("compose/grafana/dashboards.yaml"));
    assert_eq!(provider["providers"][0]["options"]["path"], dashboards.as_str());
    let home = str(&grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]);
    let home = home.strip_prefix(&format!("{dashboards}/")).expect("in the directory of dashboards");
    assert!(root().join("envoy/observability/grafana").join(home).exists(), "{home}");
    let datasource = yaml(&text("compose/grafana/datasource.yaml"));
    assert_eq!(datasource["datasources"][0]["url"], "http://prometheus:9090");

    let [profile] = grafana["profiles"].as_array().expect("profiles").as_slice() else {
        panic!("one profile")
    };
    assert!(text(".env").contains(&format!("\nCOMPOSE_PROFILES={}\n", str(profile))));
    let with_profile = set["services"].as_object().expect("services").iter();
    let with_profile = with_profile.filter(|(_, service)| service.get("profiles").is_some());
    let names: Vec<_> = with_profile.map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["grafana", "test"]);
}
