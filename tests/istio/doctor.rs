//! `firstword doctor` predicts the outcome of each case from the proxy's configuration alone.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value, json};

use crate::case::{Case, Clients, Expected, MYSQL_PORT};
use crate::cases::CASES;
use crate::pilot::bootstrap::bootstrap;
use crate::pilot::mesh::Proxy;
use crate::pilot::{Xds, xds};
use firstword_testing::doctor::{Verdict, doctor};
use firstword_testing::program::firstword;

const PROXY: [u8; 4] = [10, 1, 0, 2];

/// The word of the report for an outcome.
fn in_words(expected: Expected) -> String {
    match expected {
        Expected::Greeting => "greeting".into(),
        Expected::After(millis) => format!("delayed {millis}"),
        Expected::Hang => "hang".into(),
        Expected::Closed(millis) => format!("closed {millis}"),
    }
}

impl Case {
    /// Destinations of the case's clients.
    pub fn destinations(&self, own: std::net::IpAddr) -> Vec<SocketAddr> {
        match &self.clients {
            Clients::Outbound(of) => {
                [of.to.0].into_iter().chain(of.also).map(|address| (address, of.to.1).into()).collect()
            }
            _ => vec![(own, MYSQL_PORT).into()],
        }
    }

    /// Expected outcome for each kind of client, in the words of the report.
    pub fn verdicts(&self) -> Vec<(&'static str, Option<String>)> {
        match &self.clients {
            Clients::Outbound(of) if of.excluded => vec![("silent", Some("bypass".into()))],
            Clients::Outbound(of) => vec![("silent", Some(in_words(of.expected)))],
            Clients::Gateway(expected) => vec![("silent", Some(in_words(*expected)))],
            Clients::Inbound { plain, mtls } => {
                vec![("silent", Some(in_words(*plain))), ("mesh", mtls.map(in_words))]
            }
            Clients::Proxied { with, without, mtls, .. } => vec![
                ("proxy_header", Some(in_words(*with))),
                ("silent", Some(in_words(*without))),
                ("mesh", mtls.map(in_words)),
            ],
        }
    }

    /// Asserts that the report has the expected outcome for each kind of client.
    pub fn assert_verdicts(&self, verdict: &Verdict) {
        for (client, expected) in self.verdicts() {
            assert_eq!(verdict.of(client), expected, "{} {client}: {:#}", self.name, verdict.0);
        }
    }
}

/// A configuration dump of a proxy with this configuration, in Envoy's format.
pub fn dump(xds: &Xds, proxy: &Proxy, annotations: &Value) -> Value {
    let bootstrap = bootstrap(xds, proxy, annotations);
    let kind = |name: &str| format!("type.googleapis.com/envoy.admin.v3.{name}");
    let wrapped = |key: &str, values: &[Value]| -> Vec<Value> {
        values.iter().map(|value| json!({key: value, "last_updated": "2026-08-22T00:00:00Z"})).collect()
    };
    json!({"configs": [
        {"@type": kind("BootstrapConfigDump"), "bootstrap": bootstrap},
        {"@type": kind("ClustersConfigDump"), "static_clusters": wrapped("cluster", &xds.clusters)},
        {"@type": kind("EcdsConfigDump"), "ecds_filters": wrapped("ecds_filter", &xds.extensions)},
        {"@type": kind("ListenersConfigDump"), "static_listeners": wrapped("listener", &xds.listeners)},
    ]})
}

#[test]
fn it_predicts_the_outcome_of_each_case() {
    let mut wrong = Vec::new();
    for case in CASES {
        let proxy = case.proxy(PROXY.into());
        let mesh = case.mesh(&proxy, "/etc/certs");
        let xds = xds(&mesh, &proxy, &case.all_resources());
        let dump = dump(&xds, &proxy, &case.annotations()).to_string();
        for to in case.destinations(PROXY.into()) {
            let verdict = doctor(Command::new(firstword()), "-", to, dump.as_bytes());
            for (client, expected) in case.verdicts() {
                let found = verdict.of(client);
                if found != expected {
                    wrong.push(format!("{} {client}: expected {expected:?}, found {found:?}", case.name));
                }
            }
            println!("{}: {:?}", case.name, verdict.codes());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The text output for the cases that `docs/measured.md` describes. `FIRSTWORD_BLESS=1` writes it.
#[test]
fn its_text_output_is_as_recorded() {
    for name in ["A1", "A2", "A4", "A5 filter", "D0", "F5", "G0", "I0", "I4", "I7", "I8", "P0", "P1", "X1"] {
        let case = CASES.iter().find(|case| case.name == name).expect("a case");
        let proxy = case.proxy(PROXY.into());
        let xds = xds(&case.mesh(&proxy, "/etc/certs"), &proxy, &case.all_resources());
        let dump = dump(&xds, &proxy, &case.annotations()).to_string();
        let to = case.destinations(PROXY.into())[0].to_string();
        let mut command = assert_cmd::Command::new(firstword());
        let output =
            command.args(["doctor", "-", "--dest", &to]).write_stdin(dump).output().expect("firstword");
        let text = String::from_utf8(output.stdout).expect("text");
        let path =
            firstword_testing::root().join(format!("tests/istio/doctor/{}.txt", name.replace(' ', "-")));
        if std::env::var_os("FIRSTWORD_BLESS").is_some() {
            std::fs::write(&path, &text).expect("a file");
        }
        let expected =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(text, expected, "{name}");
    }
}

/// The first example of an output in each of these documents is how the recorded output begins.
#[test]
fn the_documents_show_its_output() {
    let recorded = include_str!("doctor/A1.txt");
    let documents = [
        ("README.md", include_str!("../../README.md")),
        ("docs/doctor.md", include_str!("../../docs/doctor.md")),
    ];
    for (name, document) in documents {
        let shown = document.split("```text\n").nth(1).and_then(|rest| rest.split("```").next());
        let shown = shown.expect("an example");
        assert!(shown.lines().count() >= 5, "{name}: {shown}");
        assert!(recorded.starts_with(shown), "{name} should show:\n{recorded}");
    }
}
