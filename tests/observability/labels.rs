//! Labels by three configurations: our `stats_tags`, Istio's `extraStatTags`, and relabelling at scrape time.

use std::collections::BTreeMap;

use firstword::metrics::catalogue::Metric;
use serde_json::{Value, json};

use crate::server::{Prometheus, shipped, yaml};
use firstword_testing::client::{CLASSIC, Client, Login};
use firstword_testing::envoy::{Envoy, EnvoyOptions};
use firstword_testing::mariadb::MariaDb;

const CONFIGURATION: &str = r#"{"metrics": {"profile": "full", "labels": ["direction", "destination", "port"],
    "flush_interval": "100ms"}, "rules": [{"name": "orders", "protocol": "mysql"}]}"#;

fn envoy(server: &MariaDb, stats_config: Option<Value>) -> Envoy {
    let options = EnvoyOptions::new("envoy/mysql.yaml").upstream("mysql", server.addr());
    Envoy::start(options.configuration(CONFIGURATION).edit(|bootstrap| {
        bootstrap["stats_config"] = stats_config.unwrap_or_else(|| bootstrap["stats_config"].clone());
    }))
}

/// Tags as in Istio's bootstrap for the annotation `sidecar.istio.io/extraStatTags`.
fn extra_stat_tags() -> Value {
    let own = Metric::ALL.iter().flat_map(|metric| metric.definition().labels).map(|label| label.key());
    let mut keys: Vec<_> = own.chain(["direction", "destination", "port", "le"]).collect();
    keys.sort_unstable();
    keys.dedup();
    let tag = |key: &&str| json!({"tag_name": key, "regex": format!("({key}=\\.=(.*?);\\.;)")});
    json!({"stats_tags": keys.iter().map(tag).collect::<Vec<_>>()})
}

fn session(envoy: &Envoy) {
    let address = envoy.listener_addr("mysql");
    let mut client = Client::login(address, &Login::new(CLASSIC));
    client.query("SELECT 1 UNION SELECT 2");
    client.query("SELECT * FROM nosuch").expect_errno(1146);
    let statement = client.prepare("SELECT ?").statement_id();
    client.execute(statement, 0, &["x"]);
    client.quit();
    let wrong = Client::connect(address).log_in(&Login::new(CLASSIC).user("nobody", "wrong"));
    assert_eq!(wrong.err(), Some(1045));
}

/// Values of all series, without the target's labels. The values of series that change by themselves are zero.
fn counts(prometheus: &Prometheus, job: &str) -> BTreeMap<String, f64> {
    let samples = prometheus.query(&format!(r#"{{__name__=~"firstword_.*", job="{job}"}}"#));
    let counts = samples.into_iter().filter_map(|sample| {
        let mut labels = sample.labels.as_object()?.clone();
        labels.remove("job");
        labels.remove("instance");
        let name = labels["__name__"].as_str()?;
        // Ignored, because client and server close in any order when a login is refused.
        if labels.get("phase").is_some_and(|phase| phase == "authentication") {
            return None;
        }
        let volatile = ["_microseconds_sum", "_seconds_bucket", "heartbeat_total", "vm_memory_bytes"];
        let value = if volatile.iter().any(|ending| name.ends_with(ending)) { 0.0 } else { sample.value };
        Some((Value::Object(labels).to_string(), value))
    });
    counts.collect()
}

#[test]
fn labels_are_equal_with_each_configuration_of_tags() {
    let server = MariaDb::start(&[]);
    let configurations = [
        ("stats_tags", "prometheus.yaml", envoy(&server, None)),
        ("extra_stat_tags", "prometheus.yaml", envoy(&server, Some(extra_stat_tags()))),
        ("untagged", "untagged.yaml", envoy(&server, Some(json!({})))),
    ];
    for (.., envoy) in &configurations {
        session(envoy);
        envoy.stable(std::time::Duration::from_secs(1));
    }
    let jobs = configurations.each_ref().map(|(name, file, envoy)| {
        let mut job = yaml(&shipped(file))["scrape_configs"][0].clone();
        job["job_name"] = json!(name);
        (job, envoy.admin_addr())
    });
    let prometheus = Prometheus::start(&jobs, &[]);
    for (name, ..) in &configurations {
        prometheus.wait(&format!(r#"sum(firstword_handshakes_total{{job="{name}"}})"#), 2.0);
    }
    let expected = counts(&prometheus, "stats_tags");
    assert!(expected.len() > 150, "{}", expected.len());
    let refused = r#"{"__name__":"firstword_handshake_errors_total","destination":"orders","direction":"unspecified","errno":"1045","plugin":"mysql_native_password","port":"other"}"#;
    assert_eq!(expected.get(refused), Some(&1.0), "{expected:#?}");
    for name in ["extra_stat_tags", "untagged"] {
        let found = counts(&prometheus, name);
        let differences: Vec<_> = expected
            .iter()
            .chain(&found)
            .filter(|(series, _)| expected.get(*series) != found.get(*series))
            .collect();
        assert!(differences.is_empty(), "{name}: {differences:#?}");
    }
}
