//! What follows a panic in a callback, for the shell that survives one.

use firstword::event::PanicResult::{self, Closed, Passed};
use firstword::filter::after_panic::Panicked;

use super::{Worker, orders};

const BLOCKS: &str = r#"{"rules": [{"match": {"direction": "outbound"}, "protocol": "mysql",
    "mysql": {"block_local_infile": true}}]}"#;

#[test]
fn a_connection_continues_after_a_panic_unless_something_depends_on_the_filter() {
    let cases: [(&str, PanicResult); 4] = [
        ("", Passed),
        // A log can lack a value.
        (r#"{"access_log": ["commands"]}"#, Passed),
        // A filter after this one may decide by the account.
        (r#"{"access_log": ["user"]}"#, Closed),
        (BLOCKS, Closed),
    ];
    for (configuration, expected) in cases {
        let worker = Worker::start(configuration);
        let stream = worker.connect();
        worker.log();
        for connection in [Panicked::Inspected(&stream), Panicked::Uninspected(orders())] {
            assert_eq!(worker.filter.after_panic(connection, &worker.host), expected, "{configuration}");
            let result = expected.label();
            let line = format!("event=panic result={result} direction=outbound destination=10.0.0.5:3306");
            let log = worker.log();
            assert!(log.len() == 1 && log[0].starts_with(&line), "{log:?}");
        }
        worker.flush();
        let counted =
            |result: PanicResult| worker.sum("panics_total", &[&format!("result={}", result.label())]);
        let other = if expected == Closed { Passed } else { Closed };
        assert_eq!((counted(expected), counted(other)), (2, 0), "{configuration}");
    }
}
