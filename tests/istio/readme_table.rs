//! The tables of `docs/measured.md` show the outcomes of a run. `FIRSTWORD_BLESS=1` writes them. Otherwise, the outcomes must
//! be equal. The times are not compared.

use std::fmt::Write as _;
use std::time::Duration;

use crate::case::{Case, Clients, Expected, HttpExpected};
use crate::cases::CASES;
use crate::run::{Measured, OUTCOMES, Outcome, is_too_new};
use firstword_testing::root;

const BEGIN: &str = "<!-- measured: written by make test-istio, and compared with each run -->\n";
const END: &str = "<!-- end of what was measured -->\n";

fn time(of: Duration) -> String {
    let millis = of.as_secs_f64() * 1000.0;
    if millis < 10.0 { format!("{millis:.1} ms") } else { format!("{millis:.0} ms") }
}

fn measured(of: &Option<Measured>) -> String {
    let Some(of) = of else { return "does not come by mTLS".into() };
    match of.as_expected {
        Expected::Greeting | Expected::After(_) => format!("greeting, {}", time(of.after)),
        Expected::Hang => "**silence**".into(),
        Expected::Closed(_) => format!("**closed**, {}", time(of.after)),
    }
}

fn http(of: Option<HttpExpected>) -> &'static str {
    match of {
        None => "",
        Some(HttpExpected::Manager) => "HTTP",
        Some(HttpExpected::Raw) => "raw TCP",
        Some(HttpExpected::ManagerIfQuick) => "HTTP; raw TCP if its first byte comes after 200 ms",
        Some(HttpExpected::ManagerElsewhere { raw_on_the_port: false }) => "HTTP, on ports without a Service",
        Some(HttpExpected::ManagerElsewhere { .. }) => {
            "HTTP, on ports without a Service; raw TCP on the database's"
        }
    }
}

fn tables() -> String {
    let rows: Vec<(&Case, &Outcome)> = CASES
        .iter()
        .zip(OUTCOMES.iter())
        .filter(|(case, _)| !is_too_new(case))
        .map(|(case, outcome)| (case, outcome.as_ref().unwrap_or_else(|why| panic!("{}: {why}", case.name))))
        .collect();
    let mut text = String::new();
    let mut table = |header: &str, wanted: fn(&Clients) -> bool, row: fn(&Outcome) -> String| {
        let columns = header.matches('|').count() + 1;
        writeln!(text, "| | what is so, or was applied | {header} |\n|{}", "---|".repeat(columns + 2))
            .expect("text");
        for (case, outcome) in rows.iter().filter(|(case, _)| wanted(&case.clients)) {
            writeln!(text, "| {} | {} | {} |", case.name, case.description, row(outcome)).expect("text");
        }
        text.push('\n');
    };
    table(
        "database | `tcp_proxy` alone | HTTP Service",
        |clients| matches!(clients, Clients::Outbound(_)),
        |of| format!("{} | {} | {}", measured(&of.clients[0]), time(of.plain), http(of.http)),
    );
    table(
        "client without sidecar | client with sidecar | `tcp_proxy` alone",
        |clients| matches!(clients, Clients::Inbound { .. }),
        |of| format!("{} | {} | {}", measured(&of.clients[0]), measured(&of.clients[1]), time(of.plain)),
    );
    table(
        "client of the gateway | `tcp_proxy` alone",
        |clients| matches!(clients, Clients::Gateway(_)),
        |of| format!("{} | {}", measured(&of.clients[0]), time(of.plain)),
    );
    table(
        "client behind a proxy that sends a header | without a header | client with sidecar | `tcp_proxy` alone",
        |clients| matches!(clients, Clients::Proxied { .. }),
        |of| {
            let [with, without, mtls] =
                [0, 1, 2].map(|kind| of.clients.get(kind).map(measured).unwrap_or_default());
            format!("{with} | {without} | {mtls} | {}", time(of.plain))
        },
    );
    text
}

/// The tables without times.
fn verdicts(tables: &str) -> String {
    regex::Regex::new(r"[0-9.]+ ms\b").expect("an expression").replace_all(tables, "… ms").into_owned()
}

mod needs_netns {
    use super::*;

    #[test]
    #[ignore = "needs network namespaces: make test-istio"]
    fn the_readme_shows_the_measured_outcomes() {
        let path = root().join("docs/measured.md");
        let readme = std::fs::read_to_string(&path).expect("docs/measured.md");
        let (before, rest) = readme.split_once(BEGIN).expect("the marker before the tables");
        let (written, after) = rest.split_once(END).expect("the marker after the tables");
        let tables = format!("\n{}", tables());
        // Rows of cases that this Envoy does not support remain.
        let left_out: Vec<_> =
            CASES.iter().filter(|case| is_too_new(case)).map(|case| format!("| {} |", case.name)).collect();
        let is_left_out = |line: &&str| left_out.iter().any(|start| line.starts_with(start));
        let written: String = written.split_inclusive('\n').filter(|line| !is_left_out(line)).collect();
        if std::env::var_os("FIRSTWORD_BLESS").is_some() {
            assert_eq!(left_out, [""; 0], "with this Envoy the table would be incomplete");
            std::fs::write(&path, format!("{before}{BEGIN}{tables}{END}{after}")).expect("docs/measured.md");
        } else {
            let hint = "make test-istio FIRSTWORD_BLESS=1 writes the tables";
            assert_eq!(verdicts(&written), verdicts(&tables), "{hint}");
        }
    }
}
