//! Inputs that the command refuses, each with the reason.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::inputs::{bootstrap, listener, string_value, with_filter};
use crate::{admin, json_of, run, verdicts};

#[test]
fn invalid_inputs_are_refused() {
    let one = bootstrap(&[listener(&json!({}))]).to_string();
    let half: String = one.chars().take(one.len() / 2).collect();
    let listener_with = |key: &str, value: Value| bootstrap(&[listener(&json!({key: value}))]).to_string();
    let deep = format!("{}{}", "[".repeat(1 << 20), "]".repeat(1 << 20));
    let expected = "$: expected a /config_dump, the output of";
    for (input, problem) in [
        (String::new(), expected),
        ("hello".to_owned(), expected),
        ("a: b".to_owned(), expected),
        ("---\na: b\n---\nc: d\n".to_owned(), expected),
        ("{}".to_owned(), "found an empty object"),
        ("[]".to_owned(), "$: expected at least one listener, found none"),
        ("[1]".to_owned(), "$[0]: expected a listener, found a number"),
        (
            json!([{"name": "c", "type": "EDS"}]).to_string(),
            "$[0]: expected a listener, found an object with \"name\", \"type\"",
        ),
        (json!({"configs": {}}).to_string(), "$.configs: expected a list, found an empty object"),
        (json!({"configs": []}).to_string(), "$: expected at least one listener, found none"),
        (half, "expected JSON, found a syntax error: EOF while parsing"),
        (deep, "expected JSON, found a syntax error: recursion limit exceeded"),
        (
            listener_with("name", json!(1)),
            "$.static_resources.listeners[0].name: invalid type: integer `1`, expected a string",
        ),
        (
            listener_with("address", json!({"socket_address": {"port_value": 70_000}})),
            "$.static_resources.listeners[0].address.socket_address.port_value: invalid value: integer `70000`, expected u16",
        ),
        (
            listener_with("listener_filters_timeout", json!("soon")),
            "listeners[0].listener_filters_timeout: expected a duration such as \"0.050s\", found \"soon\"",
        ),
        (
            listener_with("listener_filters", json!([{"filter_disabled": {"a": 1}}])),
            "$.static_resources.listeners[0].listener_filters[0].filter_disabled",
        ),
        ("\u{0}".repeat(1 << 20), "standard input: "),
    ] {
        let start: String = input.chars().take(30).collect();
        let (code, report, problems) = run(&["-"], input);
        assert_eq!((code, report.as_str()), (2, ""), "{start}: {problems}");
        assert!(problems.starts_with("firstword doctor: standard input: "), "{start}: {problems}");
        assert!(problems.contains(problem), "{start}: {problems}");
        assert_eq!(problems.lines().count(), 1, "{start}: {problems}");
    }
    let (code, _, problems) = run(&["-"], vec![b' '; (64 << 20) + 1]);
    assert_eq!((code, problems.as_str()), (2, "firstword doctor: standard input: larger than 64 MiB\n"));
    let (code, _, problems) = run(&["-"], vec![0xff; 100]);
    assert_eq!(code, 2, "{problems}");
    let (code, _, problems) = run(&["there-is-none.json"], "");
    assert_eq!(
        (code, problems.starts_with("firstword doctor: there-is-none.json: cannot read it: No such")),
        (2, true)
    );
    let (code, _, problems) = run(&["-", "--stats", "Cargo.toml"], one);
    assert_eq!(
        (code, problems.starts_with("firstword doctor: Cargo.toml: expected Envoy's /stats")),
        (2, true),
        "{problems}"
    );
}

/// The address of a server that sends this response to every client.
fn responding(response: &'static str) -> String {
    admin::serve(move |_| response.to_owned())
}

#[test]
fn invalid_admin_interfaces_are_refused() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let missing = responding("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
    let elsewhere =
        responding("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n");
    let mysql = responding("J\0\0\0\n5.5.5-10.11\0");
    let page = responding("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>");
    let huge = responding("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n");
    for (address, problem) in [
        (&closed, "cannot be reached"),
        (&missing, "expected Envoy's admin interface, found an answer with status 404"),
        (&elsewhere, "302"),
        (&mysql, "cannot be reached"),
        (&huge, "cannot read it"),
        (&page, "/stats: expected Envoy's /stats"),
        (
            &"https://127.0.0.1:1".to_owned(),
            "expected http://HOST:PORT, as Envoy's admin interface has no https",
        ),
    ] {
        let (code, report, problems) = run(&[address], "");
        assert_eq!((code, report.as_str()), (2, ""), "{problems}");
        assert!(
            problems.starts_with("firstword doctor: ") && problems.contains(problem),
            "{address}: {problems}"
        );
    }
}

#[test]
fn too_many_destinations_are_refused() {
    let listener_on = |number: u16| {
        let [high, low] = number.to_be_bytes();
        let address =
            json!({"socket_address": {"address": format!("10.0.{high}.{low}"), "port_value": 3306}});
        listener(&json!({"name": number.to_string(), "address": address}))
    };
    let input = bootstrap(&(0..=10_000).map(listener_on).collect::<Vec<_>>());
    let (code, report, problems) = run(&["-"], input.to_string());
    assert_eq!((code, report.as_str()), (2, ""));
    let expected = "firstword doctor: standard input: expected at most 10000 destinations, found 10001; choose with --dest\n";
    assert_eq!(problems, expected);
    let (code, report) = json_of(&["-", "--dest", "10.0.39.16:3306"], &input);
    assert_eq!((code, verdicts(&report)[0].as_str()), (0, "10.0.39.16:3306 silent: greeting"));
}

#[test]
fn no_change_of_the_input_causes_a_panic() {
    // Replaces every value of a configuration in turn.
    let mut input = with_filter(&[json!({"configuration": string_value(&json!({"mode": "observe"}))})]);
    let more = listener(&json!({"listener_filters": [{"name": "envoy.filters.listener.tls_inspector",
        "filter_disabled": {"or_match": {"rules": [{"destination_port_range": {"start": 1, "end": 2}}]}}}],
        "default_filter_chain": {"filter_chain_match": {"prefix_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]}}}));
    input["static_resources"]["listeners"].as_array_mut().unwrap().push(more);
    input["node"] = json!({"id": "sidecar~10.0.0.1~a.b~c", "metadata": {"LABELS": {"app": "x"}, "INSTANCE_IPS": "10.0.0.1"}});
    let mut paths = Vec::new();
    collect(&input, &mut Vec::new(), &mut paths);
    assert!(paths.len() > 60, "{}", paths.len());
    let others = [json!(-1), json!(""), json!([]), json!({"a": []}), json!(1e300)];
    for (index, path) in paths.iter().enumerate() {
        let mut changed = input.clone();
        *changed.pointer_mut(path).unwrap() = others[index % others.len()].clone();
        let (code, _, problems) = run(&["-"], changed.to_string());
        assert!((0..4).contains(&code) && !problems.contains("panicked"), "{path}: {code} {problems}");
    }
}

fn collect(value: &Value, path: &mut Vec<String>, found: &mut Vec<String>) {
    if !path.is_empty() {
        found.push(format!("/{}", path.join("/")));
    }
    let inner: Vec<(String, &Value)> = match value {
        Value::Array(items) => {
            items.iter().enumerate().map(|(index, item)| (index.to_string(), item)).collect()
        }
        Value::Object(entries) => {
            entries.iter().map(|(key, value)| (key.replace('~', "~0").replace('/', "~1"), value)).collect()
        }
        _ => Vec::new(),
    };
    for (key, value) in inner {
        path.push(key);
        collect(value, path, found);
        path.pop();
    }
}
