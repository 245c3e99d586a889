//! The form of a report: order of findings and fixes, `--fix`, `-v`, colours, workloads, explanations.

use serde_json::{Value, json};

use crate::support::{codes, command, finding, inspected, outbound, output, report, run, sidecar};

/// The story of the documents: an HTTP Service has the database's port.
fn conflict() -> Value {
    let clusters = [json!({"name": "outbound|10000||irrelevant-svc.other.svc.cluster.local", "type": "EDS"})];
    sidecar(&[outbound("0.0.0.0", 10_000, &json!([]), &inspected())], &clusters)
}

const DEST: &str = "55.108.108.2:10000";

#[test]
fn a_downgrade_is_never_first_and_a_last_resort_is_last() {
    let report = report(&["--dest", DEST], &conflict());
    assert_eq!(report["format"], 2);
    let fixes = finding(&report, "port-conflict")["fixes"].as_array().unwrap();
    let numbers: Vec<_> = fixes.iter().map(|fix| fix["number"].as_u64().unwrap()).collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "{numbers:?}");
    assert!(
        fixes.iter().all(|fix| fix["trade_off"].as_str().is_some_and(|text| !text.is_empty())),
        "{fixes:#?}"
    );
    let flags: Vec<_> =
        fixes.iter().map(|fix| (fix["security"] == true, fix["last_resort"] == true)).collect();
    let [first, .., before_last, last] = flags.as_slice() else { panic!("{flags:?}") };
    assert_eq!((*first, *before_last, *last), ((false, false), (true, false), (true, true)), "{fixes:#?}");
    assert_eq!(flags.iter().filter(|(_, last)| *last).count(), 1);
    assert_eq!(fixes[0]["from"], json!(["istio/scenarios/port-conflict/serviceentry.yaml"]));
}

#[test]
fn the_text_of_a_finding_has_cause_fixes_verification_and_more() {
    let text = run(&["doctor", "-", "--dest", DEST], &conflict().to_string()).text;
    for part in [
        "error[port-conflict]: connections to 55.108.108.2:10000 hang\n",
        "  cause   Service other/irrelevant-svc declares port 10000 as HTTP.",
        "  fix 1   Create a ServiceEntry for exactly 55.108.108.2:10000",
        "          Trade-off: ",
        "--fix 1 prints it, from istio/scenarios/port-conflict/serviceentry.yaml.",
        "Trade-off (lowers security, the last resort): each database connection",
        "  verify  istioctl proxy-config listener app-0.shop --address 55.108.108.2 --port 10000\n",
        "  more    firstword explain port-conflict; docs/hang.md#",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("kind: ServiceEntry"), "{text}");
}

#[test]
fn a_manifest_is_printed_by_its_number() {
    let input = conflict().to_string();
    let fix = |number: &str| run(&["doctor", "-", "--dest", DEST, "--fix", number], &input);
    let first = fix("1");
    assert_eq!((first.status, first.problems.as_str()), (0, ""));
    assert!(
        first.text.contains("addresses: [55.108.108.2]") && first.text.contains("namespace: shop"),
        "{}",
        first.text
    );
    assert!(!first.text.contains("kubectl"), "{}", first.text);
    let advice = fix("2");
    assert_eq!((advice.status, advice.text.as_str()), (2, ""));
    assert!(
        advice.problems.contains("fix 2 has no manifest. It is: If clients use a host name"),
        "{}",
        advice.problems
    );
    let none = fix("99");
    assert_eq!(none.status, 2);
    assert!(none.problems.contains("there is no fix 99: expected a number from 1 to"), "{}", none.problems);
    let right = sidecar(&[], &[]).to_string();
    let none = run(&["doctor", "-", "--dest", DEST, "--fix", "1"], &right);
    assert!(none.problems.contains("no finding has a fix"), "{}", none.problems);
}

/// Without an address, the only manifest would be the last resort.
#[test]
fn without_a_destination_the_first_fix_asks_for_one() {
    let mut input = conflict();
    let listeners = &mut input["configs"][2]["static_listeners"];
    listeners[1]["listener"] = outbound("0.0.0.0", 3306, &json!([]), &inspected());
    let report = report(&[], &input);
    let first = &finding(&report, "port-conflict")["fixes"][0];
    assert_eq!(
        first["what"],
        "Run the command again with --dest HOST:3306 or --dest ADDRESS:3306, to get the exact fix"
    );
    assert_eq!(first.get("yaml"), None);
}

#[test]
fn connections_that_hang_now_are_the_first_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stats");
    std::fs::write(&path, "listener.0.0.0.0_10000.downstream_pre_cx_active: 3\n").unwrap();
    let arguments = ["--dest", DEST, "--stats", path.to_str().unwrap()];
    let found = report(&arguments, &conflict());
    assert_eq!(codes(&found), ["error connections-waiting", "error port-conflict"]);
    let text = run(&[&["doctor", "-"][..], &arguments].concat(), &conflict().to_string()).text;
    assert!(text.contains("error[connections-waiting]: 3 connections hang now in 0.0.0.0_10000\n"), "{text}");
    // At a listener where no destination waits, it may be an HTTP client for a moment.
    let arguments = ["--dest", "55.108.108.2:10001", "--stats", path.to_str().unwrap()];
    assert_eq!(codes(&report(&arguments, &conflict())), ["warning connections-waiting"]);
}

#[test]
fn notes_are_counted_and_shown_on_request() {
    let mut input = sidecar(
        &[outbound("10.9.9.9", 3306, &json!([{"filters": [crate::support::tcp_proxy("db")]}]), &json!({}))],
        &[json!({"name": "db", "type": "EDS"})],
    );
    input["configs"][1]["dynamic_active_clusters"][1]["cluster"]
        .as_object_mut()
        .unwrap()
        .remove("circuit_breakers");
    let arguments = ["doctor", "-", "--dest", "10.9.9.9:3306"];
    let short = run(&arguments, &input.to_string());
    assert_eq!(short.status, 0);
    assert!(
        short.text.ends_with("Nothing was found that keeps a greeting back.\n\n1 note (show it with -v)\n"),
        "{}",
        short.text
    );
    assert!(!short.text.contains("default-connection-limit"));
    let long = run(&[&arguments[..], &["-v"]].concat(), &input.to_string()).text;
    assert!(
        long.contains(
            "info[default-connection-limit]: 10.9.9.9:3306: Envoy limits the connections to 1024\n"
        ),
        "{long}"
    );
    assert!(!long.contains("with -v"), "{long}");
}

#[test]
fn colours_follow_one_policy() {
    let input = conflict().to_string();
    let coloured = |arguments: &[&str], input: &str| run(arguments, input).text.contains('\u{1b}');
    let doctor = ["doctor", "-", "--dest", DEST];
    assert!(!coloured(&doctor, &input), "the output is no terminal");
    assert!(coloured(&[&doctor[..], &["--color=always"]].concat(), &input));
    assert!(coloured(&[&["--color=always"], &doctor[..]].concat(), &input));
    assert!(!coloured(&[&doctor[..], &["--color=never"]].concat(), &input));
    assert!(coloured(&["explain", "port-conflict", "--color=always"], ""));
    let mistake = r#"{"mode": 1}"#;
    assert!(coloured(&["check-config", "-", "--color=always"], mistake));
    assert!(!coloured(&["check-config", "-", "--color=auto"], mistake));
    assert_eq!(run(&["doctor", "-", "--color=blue"], &input).status, 2);
}

#[test]
fn a_workload_gets_the_command_to_run_and_the_context() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config");
    let contexts = json!({"current-context": "prod\u{7}", "contexts": [
        {"name": "test", "context": {"namespace": "wrong"}}, {"name": "prod\u{7}", "context": {"namespace": "shop"}}]});
    std::fs::write(&config, contexts.to_string()).unwrap();
    // A program of this name in PATH would be found if the command ran it.
    let trap = directory.path().join("istioctl");
    std::fs::write(&trap, "#!/bin/sh\ntouch \"$0.ran\"\n").unwrap();
    std::fs::set_permissions(&trap, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command =
        command(&["doctor", "deploy/app.shop", "--dest", "Orders.example.com:3306", "--side", "outbound"]);
    let found = output(command.env("KUBECONFIG", &config).env("PATH", directory.path()));
    assert_eq!((found.status, found.problems.as_str()), (2, ""));
    let expected = "istioctl proxy-config all deploy/app.shop -o json | firstword doctor - --dest orders.example.com:3306 --side outbound\n";
    assert!(found.text.contains(expected), "{}", found.text);
    assert!(found.text.contains("current context is prod%07 (namespace shop), in /"), "{}", found.text);
    assert!(!directory.path().join("istioctl.ran").exists());

    let mut command = crate::support::command(&["doctor", "pod/app-0"]);
    let found = output(command.env("HOME", "/nonexistent"));
    assert!(found.text.contains("No current context of kubectl was found"), "{}", found.text);
    // A file of this name is a file.
    std::fs::create_dir(directory.path().join("deploy")).unwrap();
    std::fs::write(directory.path().join("deploy/app"), conflict().to_string()).unwrap();
    let mut command = crate::support::command(&["doctor", "deploy/app", "--dest", DEST]);
    assert_eq!(output(command.current_dir(directory.path())).status, 1);
}

#[test]
fn help_is_short_and_begins_with_examples() {
    let short = run(&["doctor", "-h"], "").text;
    assert!(short.lines().count() <= 20, "{short}");
    let long = run(&["doctor", "--help"], "").text;
    let example = long.find("istioctl proxy-config all deploy/app").unwrap();
    assert!(example < long.find("Options:").unwrap(), "{long}");
    assert!(!long.contains("findings: ["), "{long}");
}

#[test]
fn a_code_is_explained() {
    let found = run(&["explain", "port-conflict"], "");
    assert_eq!(found.status, 0);
    assert!(
        found.text.starts_with("port-conflict: an HTTP Service with the same port number"),
        "{}",
        found.text
    );
    assert!(found.text.contains("\nMore: docs/hang.md#"), "{}", found.text);
    assert!(found.text.lines().all(|line| line.chars().count() <= 100), "{}", found.text);
    let all = run(&["explain"], "");
    assert!(all.text.lines().count() > 40 && all.text.contains("\nport-conflict  "), "{}", all.text);
    let unknown = run(&["explain", "no\u{1b}such"], "");
    assert_eq!((unknown.status, unknown.text.as_str()), (2, ""));
    assert!(unknown.problems.contains("no finding has the code no%1Bsuch"), "{}", unknown.problems);
}

/// The last part of a path such as `docs/hang.md#in-plain-envoy` is checked by a test of the table.
#[test]
fn each_finding_of_a_report_has_an_explanation() {
    let report = report(&["--dest", DEST], &conflict());
    for one in report["findings"].as_array().unwrap() {
        assert_eq!(run(&["explain", one["code"].as_str().unwrap()], "").status, 0, "{one}");
    }
}
