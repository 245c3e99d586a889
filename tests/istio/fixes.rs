//! Each fix that `firstword doctor` suggests for a failing case is applied to the mesh, and brings the greeting.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use serde_json::Value;

use crate::case::{AUTOMATIC, Case, Clients, DATABASE, Expected, MYSQL_PORT, PORT};
use crate::cases::CASES;
use crate::doctor::dump;
use crate::lab::pod::{Pod, start_with};
use crate::lab::world::{World, database, pod_address};
use crate::pilot::resource::{Resource, parse};
use crate::pilot::{xds, xds_and_misses};
use crate::run::{HEADER, PODS, PODS_FOR_FIXES, Probe, is_too_new, world};
use crate::schemas::Schemas;
use firstword_testing::doctor::{Verdict, doctor};
use firstword_testing::probe::{client, client_with_header};
use firstword_testing::program::firstword;

/// A fix to try: a case, the kind of client that fails, the code of the finding, and the index of the fix.
struct Trial {
    case: &'static Case,
    client: &'static str,
    code: String,
    fix: usize,
}

const fn is_greeted(expected: Expected) -> bool {
    matches!(expected, Expected::Greeting)
}

/// The kinds of clients of a case that fail and can be fixed.
fn failing_clients(case: &Case) -> Vec<&'static str> {
    match &case.clients {
        Clients::Outbound(of) if !of.excluded && !is_greeted(of.expected) => vec!["silent"],
        Clients::Gateway(expected) | Clients::Inbound { plain: expected, .. } if !is_greeted(*expected) => {
            vec!["silent"]
        }
        // Behind a gateway that requires headers, a client without one must be closed.
        Clients::Proxied { gateway: false, with, without, .. } => {
            let all = [("proxy_header", with), ("silent", without)];
            all.into_iter()
                .filter(|(_, expected)| !is_greeted(**expected))
                .map(|(client, _)| client)
                .collect()
        }
        _ => Vec::new(),
    }
}

fn diagnosed(case: &Case, own: std::net::IpAddr, resources: &[Resource]) -> Verdict {
    let proxy = case.proxy(own);
    let mesh = case.mesh(&proxy, "/etc/certs");
    let dump = dump(&xds(&mesh, &proxy, resources), &proxy, &case.annotations());
    let to = case.destinations(own)[0];
    doctor(Command::new(firstword()), "-", to, dump.to_string().as_bytes())
}

/// The finding about a kind of client. Findings about PROXY headers have their own code.
fn finding<'v>(verdict: &'v Verdict, client: &str) -> &'v Value {
    let findings = verdict.0["findings"].as_array().expect("findings");
    let of_headers =
        |one: &&Value| one["code"].as_str().is_some_and(|code| code == "proxy-protocol-before-inspector");
    let about = |one: &&Value| {
        one["where"]["destination"].is_string() && of_headers(one) == (client == "proxy_header")
    };
    findings.iter().find(about).unwrap_or_else(|| panic!("no finding about {client}: {:#}", verdict.0))
}

fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for case in CASES.iter().filter(|case| !is_too_new(case)) {
        for client in failing_clients(case) {
            let verdict = diagnosed(case, [10, 1, 0, 2].into(), &case.all_resources());
            let found = finding(&verdict, client);
            let fixes = found["fixes"].as_array().unwrap_or_else(|| panic!("{} {client}: no fix", case.name));
            let code = found["code"].as_str().expect("a code").to_owned();
            // Advice that no manifest carries out has no YAML.
            let manifests = (0..fixes.len()).filter(|fix| fixes[*fix]["yaml"].is_string());
            trials.extend(manifests.map(|fix| Trial { case, client, code: code.clone(), fix }));
        }
    }
    trials
}

/// Adds resources as `kubectl apply` does: a resource with the same name is replaced.
fn applied(mut resources: Vec<Resource>, given: Vec<Resource>) -> Vec<Resource> {
    let schemas = Schemas::read();
    for given in given {
        assert_eq!(schemas.problems(&given), [""; 0], "{given:?}");
        let same = |one: &Resource| {
            (&one.kind, &one.namespace, &one.name) == (&given.kind, &given.namespace, &given.name)
        };
        resources.retain(|one| !same(one));
        resources.push(given);
    }
    resources
}

/// Applies the fix and asserts that the client receives the greeting.
fn try_fix(world: &World, pod: &Pod, trial: &Trial) {
    let Trial { case, client: kind, code, fix } = trial;
    let own = pod_address(pod.number);
    let verdict = diagnosed(case, own, &case.all_resources());
    let fix = &finding(&verdict, kind)["fixes"][*fix];
    let mut resources = case.all_resources();
    if fix["what"].as_str().is_some_and(|what| what.contains("in place of the listener filter")) {
        resources.retain(|one| one.name != "native");
    }
    let given = parse(fix["yaml"].as_str().expect("YAML"));
    let resources = applied(resources, given.clone());

    let proxy = case.proxy(own);
    let mesh = case.mesh(&proxy, world.files().to_str().expect("a path"));
    let (xds, missed) = xds_and_misses(&mesh, &proxy, &resources);
    // A patch of the case may have nothing left to change. A patch of the fix must change something. One adds the filter to the
    // chain for unknown destinations, which a ServiceEntry without addresses replaces.
    let names = |one: &Resource| format!("{}/{} ", one.namespace, one.name);
    let of_filter = format!("default/firstword-sniff-timeout-{PORT} configPatches[1]");
    let is_expected = |missed: &&String| case.name == "N0" && **missed == of_filter;
    let own_misses = missed.iter().filter(|missed| given.iter().any(|one| missed.starts_with(&names(one))));
    let own_misses = own_misses.filter(|missed| !is_expected(missed));
    assert_eq!(own_misses.collect::<Vec<_>>(), [""; 0], "patches that change nothing");
    let inside = |server| start_with(world, pod, &proxy, xds, &case.annotations(), server);
    let by_name = fix["from"][0].as_str().is_some_and(|from| from.ends_with("dns-name.yaml"));
    // With the fix by name, clients get the address that Istio has chosen.
    let to = if by_name { (AUTOMATIC, PORT).into() } else { case.destinations(own)[0] };
    let mut server = None;
    let (from, running) = match &case.clients {
        Clients::Outbound(_) => {
            pod.redirect(&[]);
            (&pod.namespace, inside((DATABASE, PORT).into()))
        }
        Clients::Gateway(_) | Clients::Proxied { gateway: true, .. } => {
            pod.no_redirect();
            (&world.namespace, inside((DATABASE, PORT).into()))
        }
        Clients::Inbound { .. } | Clients::Proxied { .. } => {
            pod.redirect(&[]);
            server = Some(database(&pod.namespace, world.files(), MYSQL_PORT));
            (&world.namespace, inside((Ipv4Addr::LOCALHOST, MYSQL_PORT).into()))
        }
    };
    let first = if *kind == "proxy_header" { HEADER } else { b"" };
    // The last resort delays each greeting.
    let last_resort = fix["from"][0].as_str().is_some_and(|from| from.ends_with("sniff-timeout.yaml"));
    let expected = if last_resort { Expected::After(50) } else { Expected::Greeting };
    let mut greeted = 0;
    Probe { client: from, pod, to, first }.expect(expected, &running, &mut greeted);
    if first.is_empty() {
        assert_eq!(client(from, to).as_deref(), Ok("42"));
    } else {
        assert_eq!(client_with_header(from, to, first), "42");
    }
    let admin = pod.namespace.enter(|| running.envoy.admin_addr()).to_string();
    let mut inside = pod.namespace.command();
    inside.arg(firstword());
    let after = doctor(inside, &admin, to, b"");
    let expected = if last_resort { "delayed 50" } else { "greeting" };
    assert_eq!(after.of(kind).as_deref(), Some(expected), "{:#}", after.0);
    println!("{} {kind}: {code}, {}", case.name, fix["from"]);
    drop(running);
    drop(server);
}

mod needs_netns {
    use super::*;

    #[test]
    #[ignore = "needs network namespaces: make test-istio"]
    fn each_suggested_fix_brings_the_greeting() {
        let trials = trials();
        let queue: Mutex<VecDeque<_>> = Mutex::new(trials.iter().collect());
        let world = world();
        let wrong = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for number in 0..PODS_FOR_FIXES {
                let (queue, wrong, world) = (&queue, &wrong, &*world);
                scope.spawn(move || {
                    let pod = Pod::new(world, PODS + 1 + number);
                    loop {
                        let Some(next) = queue.lock().expect("the queue").pop_front() else { break };
                        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| try_fix(world, &pod, next))) {
                            let text = panic.downcast_ref::<String>().cloned();
                            let text =
                                text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).into()));
                            let of = format!("{} {} fix {}", next.case.name, next.client, next.fix);
                            wrong
                                .lock()
                                .expect("the list of failures")
                                .push(format!("{of}: {}", text.unwrap_or_default()));
                        }
                    }
                });
            }
        });
        let wrong = wrong.into_inner().expect("the list of failures");
        assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), trials.len(), wrong.join("\n"));
        assert!(trials.len() > 30, "{}", trials.len());
    }
}
