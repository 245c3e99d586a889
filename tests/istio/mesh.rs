//! `firstword doctor --mesh` predicts from a dump without an HTTP Service on a port what becomes of the port's connections when
//! the stand-in for istiod adds one.

use std::process::Command;

use serde_json::Value;

use crate::case::{Case, Clients, HTTP_SERVICE};
use crate::cases::CASES;
use crate::doctor::dump;
use crate::pilot::mesh::Protocol;
use crate::pilot::xds_and_misses;
use firstword_testing::doctor::doctor;
use firstword_testing::program::firstword;
use firstword_testing::temp_dir;

const PROXY: [u8; 4] = [10, 1, 0, 2];
/// A port of no destination.
const ELSEWHERE: u16 = 10_002;

/// Cases in which the proxy's configuration cannot show the future: a Sidecar hides the Service from the pod, or an EnvoyFilter
/// changes the listener of the HTTP Service, which does not exist yet. `--mesh` warns nevertheless.
const NOT_SHOWN: &[&str] = &["S1", "F2"];

/// A dump of the case's proxy, with this port of the HTTP Service.
fn with_http_port(case: &Case, port: u16) -> String {
    let proxy = case.proxy(PROXY.into());
    let mut mesh = case.mesh(&proxy, "/etc/certs");
    for service in &mut mesh.services {
        if service.address == HTTP_SERVICE.to_string() {
            service.ports[0].number = port;
            service.ports[0].protocol = Protocol::Http;
        }
    }
    // A patch of the HTTP Service's listener has nothing to change without it.
    let (xds, _) = xds_and_misses(&mesh, &proxy, &case.all_resources());
    dump(&xds, &proxy, &case.annotations()).to_string()
}

fn waits(dump: &str, to: std::net::SocketAddr) -> bool {
    let verdict = doctor(Command::new(firstword()), "-", to, dump.as_bytes()).0;
    let waits = verdict["destinations"][0]["clients"][0]["waits"].as_array().expect("waits");
    !waits.is_empty()
}

#[test]
fn it_predicts_what_an_http_service_changes() {
    let (mut wrong, mut not_shown, mut counts) = (Vec::new(), Vec::new(), [0; 3]);
    let outbound = CASES.iter().filter(|case| matches!(case.clients, Clients::Outbound(_)));
    for case in outbound {
        for to in case.destinations(PROXY.into()) {
            let now = with_http_port(case, ELSEWHERE);
            let expected = match (waits(&now, to), waits(&with_http_port(case, to.port()), to)) {
                (true, _) => "waits",
                (false, true) => "would_wait",
                (false, false) => "safe",
            };
            let folder = temp_dir();
            std::fs::write(folder.path().join("pod.json"), now).expect("a file");
            let output = Command::new(firstword())
                .args(["doctor", "-o", "json", "--dest", &to.to_string(), "--mesh"])
                .arg(folder.path())
                .output()
                .expect("firstword");
            let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
            let found = report["destinations"][0]["verdict"].as_str().expect("a verdict").to_owned();
            let status = ["safe", "waits", "", "would_wait"].iter().position(|word| *word == found);
            assert_eq!(output.status.code().map(|code| code as usize), status, "{}: {report}", case.name);
            if (expected, found.as_str()) == ("safe", "would_wait") {
                not_shown.push(case.name);
            } else if found != expected {
                wrong.push(format!("{} {to}: expected {expected}, found {found}", case.name));
            }
            let index = ["waits", "would_wait", "safe"].iter().position(|word| *word == found);
            counts[index.expect("a verdict of these")] += 1;
        }
    }
    println!("waits, would wait, safe: {counts:?}");
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(not_shown, NOT_SHOWN);
}
