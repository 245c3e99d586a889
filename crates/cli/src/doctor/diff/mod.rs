//! `firstword doctor --diff BEFORE AFTER`: the connections that Envoy closes because of a change of its configuration.

mod configuration;
mod difference;
mod equivalent;
mod report;
mod update;

use std::path::Path;

use super::answer::Answer;
use super::input;
use crate::findings::Format;
use crate::paint::Paint;
use configuration::{Configuration, Place};
use difference::Difference;

/// Compares two inputs. `statistics`: Envoy's `/stats` before the change.
pub(super) fn answer(
    [before, after]: [&Path; 2],
    statistics: Option<&Path>,
    format: Format,
    paint: Paint,
) -> Result<Answer, String> {
    let (before, statistics) = input::with_statistics(before, statistics)?;
    let before = Configuration::read(before, Place::Before)?;
    let after = Configuration::read(input::source(after)?, Place::After)?;
    let difference = Difference::between(before, after, statistics);
    let text = match format {
        Format::Text => report::text(&difference, paint),
        Format::Json => report::json(&difference),
    };
    Ok(Answer { text, status: difference.status(), problems: Vec::new() })
}
