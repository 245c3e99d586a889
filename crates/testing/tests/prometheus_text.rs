//! The reader of Prometheus' text format. Every assertion about a metric depends on it.

use firstword_testing::prometheus::Metrics;

/// Text as Envoy writes it: types, an empty label set, and label values with special characters.
const TEXT: &str = r#"# TYPE firstword_connections_total counter
firstword_connections_total{direction="inbound",protocol="mysql"} 3
firstword_connections_total{direction="outbound",protocol="mysql"} 4

firstword_series{} 0
plain 17 1700000000
odd{a="x\"y,} z\\",b="two\nlines",c=""} 1e3
envoy_bucket{le="+Inf"} +Inf
"#;

#[test]
fn reads_names_labels_and_values() {
    let metrics = Metrics::parse(TEXT).unwrap();
    assert_eq!(metrics.samples.len(), 6);
    assert_eq!(metrics.get("firstword_series", &[]), Some(0.0));
    assert_eq!(metrics.get("plain", &[]), Some(17.0));
    assert_eq!(metrics.get("odd", &[("a", "x\"y,} z\\"), ("b", "two\nlines")]), Some(1000.0));
    // To Prometheus, a label without a value is no label.
    assert!(metrics.samples.iter().all(|sample| !sample.labels.contains_key("c")));
    assert_eq!(metrics.get("envoy_bucket", &[("le", "+Inf")]), Some(f64::INFINITY));
}

#[test]
fn sums_over_the_labels_that_are_not_given() {
    let metrics = Metrics::parse(TEXT).unwrap();
    assert_eq!(metrics.get("firstword_connections_total", &[]), Some(7.0));
    assert_eq!(metrics.get("firstword_connections_total", &[("protocol", "mysql")]), Some(7.0));
    assert_eq!(metrics.get("firstword_connections_total", &[("direction", "inbound")]), Some(3.0));
}

#[test]
fn an_absent_metric_is_not_zero() {
    let metrics = Metrics::parse(TEXT).unwrap();
    assert_eq!(metrics.get("firstword_connections_total", &[("direction", "unspecified")]), None);
    assert_eq!(metrics.get("firstword_connections", &[]), None);
    assert_eq!(metrics.get("plain", &[("a", "")]), None);
}

#[test]
fn names_the_line_it_cannot_read() {
    for line in ["name", "name{} x", "name{a=\"b} 1", "name{a=b} 1", "{a=\"b\"} 1", "name{a=\"b\" 1"] {
        assert_eq!(Metrics::parse(&format!("good 1\n{line}\n")), Err(line.to_owned()));
    }
}
