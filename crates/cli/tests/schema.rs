//! `firstword schema`.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

use assert_cmd::Command;
use firstword::config::json_schema;
use serde_json::Value;

#[test]
fn the_schemas_are_printed_as_json() {
    for (arguments, expected) in [
        (&["schema"][..], json_schema::configuration()),
        (&["schema", "configuration"], json_schema::configuration()),
        (&["schema", "kubernetes"], json_schema::kubernetes()),
    ] {
        let output = Command::cargo_bin("firstword").unwrap().args(arguments).output().unwrap();
        assert!(output.status.success());
        assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), expected);
    }
    let wrong = Command::cargo_bin("firstword").unwrap().args(["schema", "x"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
}
