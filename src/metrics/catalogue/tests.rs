use super::*;
use std::collections::BTreeSet;

#[test]
fn names_are_distinct_and_end_as_their_kind_requires() {
    let names: BTreeSet<_> = Metric::ALL.iter().map(|metric| metric.definition().name).collect();
    assert_eq!(names.len(), Metric::ALL.len());
    for definition in Metric::ALL.iter().map(|metric| metric.definition()) {
        assert_eq!(definition.kind == Kind::Counter, definition.name.ends_with("_total"));
        assert!(definition.labels(Profile::Full).count() <= 2, "a series key holds two label values");
    }
}

/// Istio finds a label by `key=.=` anywhere in the name: in `client_version=.=` it would find `version=.=`.
#[test]
fn no_label_is_the_end_of_another() {
    let own = Metric::ALL.iter().flat_map(|metric| metric.definition().labels(Profile::Full));
    let keys: BTreeSet<_> = own.map(Label::key).chain(["direction", "destination", "port", "le"]).collect();
    for key in &keys {
        let longer = keys.iter().find(|other| other != &key && other.ends_with(key));
        assert_eq!(longer, None, "{key}");
    }
}

#[test]
fn each_label_has_one_code_for_other() {
    let other = Cow::Borrowed("other");
    for label in Metric::ALL.iter().flat_map(|metric| metric.definition().labels(Profile::Full)) {
        let values = label.values().and_then(|values| u16::try_from(values).ok()).unwrap_or(0);
        let codes: Vec<_> = (0..values).map(LabelCode).filter(|code| label.value(*code) == other).collect();
        let expected = if codes.is_empty() { vec![] } else { vec![label.other()] };
        assert_eq!(codes, expected, "{label:?}");
        assert!(!matches!(label, Label::Errno | Label::Release) || label.value(label.other()) == other);
    }
}

#[test]
fn every_value_is_safe_in_a_metric_name() {
    let labels: BTreeSet<_> =
        Metric::ALL.iter().flat_map(|metric| metric.definition().labels(Profile::Full)).collect();
    for label in labels {
        for code in 0..=u16::MAX {
            let value = label.value(LabelCode(code));
            let legal =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_+./-".contains(&byte);
            assert!(!value.is_empty() && value.bytes().all(legal), "{label:?} {code}: {value}");
            for reserved in crate::metrics::RESERVED {
                assert!(!value.contains(reserved), "{label:?} {code}: {value}");
            }
        }
    }
}
