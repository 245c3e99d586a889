//! Durations: a whole number with a unit, as a string.

use std::time::Duration;

use serde_json::Number;

use super::error::Problems;
use super::field::Field;
use super::node::Node;
use super::text::alternatives;

/// Maximum of most durations, in milliseconds: one hour.
pub(super) const HOUR: u64 = 3_600_000;

/// The units and their milliseconds. `ms` comes before its prefix `m`.
const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", HOUR)];

impl Field<'_> {
    /// A duration from `min` to `max` milliseconds.
    #[inline(never)]
    pub(super) fn duration(&self, min: u64, max: u64, problems: &mut Problems) -> Option<Duration> {
        let in_range = |millis: &u64| (min..=max).contains(millis);
        let found = self.text().and_then(plain).filter(in_range);
        if found.is_none() {
            let mut fixes = fixes(self.node);
            fixes.retain(|(_, millis)| in_range(millis));
            let fixes: Vec<_> = fixes.iter().map(|(text, _)| text.as_str()).collect();
            let hint =
                if fixes.is_empty() { String::new() } else { format!(" (write {})", alternatives(&fixes)) };
            let (min, max) = (in_words(min), in_words(max));
            self.refuse(
                &format!(
                    "a duration from {min:?} to {max:?}, a whole number with the unit ms, s, m or h{hint}"
                ),
                problems,
            );
        }
        found.map(Duration::from_millis)
    }
}

/// The milliseconds of a whole number with one unit.
fn plain(text: &str) -> Option<u64> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit)?;
    digits.parse::<u64>().ok()?.checked_mul(*millis)
}

/// The milliseconds of one or more numbers with a unit each, as in `1m30s` and `1.5s`. `None` if a part of a millisecond is left.
fn compound(text: &str) -> Option<u64> {
    let (mut rest, mut sum) = (text, 0_u64);
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let (after, unit) =
            UNITS.iter().find_map(|(name, millis)| Some((after.strip_prefix(name)?, *millis)))?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let value: u64 = format!("{whole}{fraction}").parse().ok()?;
        let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let scaled = value.checked_mul(unit)?;
        if scaled.checked_rem(scale)? != 0 {
            return None;
        }
        sum = sum.checked_add(scaled.checked_div(scale)?)?;
        rest = after;
    }
    Some(sum)
}

/// Valid durations that could replace a value, with their milliseconds.
fn fixes(node: &Node) -> Vec<(String, u64)> {
    let number = match node {
        Node::Number(number) => Number::as_u64(number),
        Node::String(text) => text.parse().ok(),
        _ => None,
    };
    if let Some(number) = number {
        let with = |unit: &str| format!("{number}{unit}");
        return ["s", "ms"]
            .map(with)
            .into_iter()
            .filter_map(|text| plain(&text).map(|ms| (text, ms)))
            .collect();
    }
    match node {
        Node::String(text) => compound(text).map(|millis| (in_words(millis), millis)).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// The duration in the largest unit in which it is a whole number.
fn in_words(millis: u64) -> String {
    let fitting = UNITS.iter().rev().find(|(_, unit)| millis > 0 && millis.checked_rem(*unit) == Some(0));
    match fitting {
        Some((name, unit)) => format!("{}{name}", millis.checked_div(*unit).unwrap_or_default()),
        None => "0s".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_whole_number_with_one_unit() {
        for (text, millis) in [
            ("250ms", Some(250)),
            ("5s", Some(5000)),
            ("90s", Some(90_000)),
            ("2m", Some(120_000)),
            ("1h", Some(HOUR)),
            ("0s", Some(0)),
            ("5", None),
            ("", None),
            ("s", None),
            ("1m30s", None),
            ("1.5s", None),
            ("+5s", None),
            ("-5s", None),
            ("5 s", None),
            ("5S", None),
            ("5sec", None),
            ("99999999999999999999s", None),
            ("18446744073709551615h", None),
        ] {
            assert_eq!(plain(text), millis, "{text}");
        }
    }

    #[test]
    fn a_hint_is_the_same_duration_in_one_unit() {
        let fixed = |text: &str| fixes(&Node::String(text.to_owned())).into_iter().map(|(text, _)| text);
        for (text, expected) in [
            ("1m30s", &["90s"][..]),
            ("1h0m0s", &["1h"]),
            ("1.5s", &["1500ms"]),
            ("0.5m", &["30s"]),
            ("2m500ms", &["120500ms"]),
            ("5", &["5s", "5ms"]),
            ("1.0005s", &[]),
            ("1.2.3s", &[]),
            (".s", &[]),
            ("5sec", &[]),
            ("five", &[]),
        ] {
            assert_eq!(fixed(text).collect::<Vec<_>>(), expected, "{text}");
        }
    }
}
