//! `firstword doctor --mesh FOLDER`: the ports on which connections hang, or would hang if an HTTP Service had the port number,
//! in the dumps of many pods.

mod http_service;
mod report;
mod rows;
mod scan;

use std::path::Path;

use super::answer::{Answer, UNUSABLE};
use super::target::Target;
use crate::findings::Format;
use crate::paint::Paint;
use rows::{Row, State};
use scan::Mesh;

/// Examines a folder. `dest`: the destinations that the user names; without any, those that the dumps suggest.
pub(super) fn answer(folder: &Path, dest: &[Target], format: Format, paint: Paint) -> Result<Answer, String> {
    let mesh = Mesh::scan(folder, dest)?;
    let text = match format {
        Format::Text => report::text(&mesh, paint),
        Format::Json => report::json(&mesh),
    };
    let worst = mesh.rows.all.values().map(Row::state).max();
    let status = match worst {
        _ if !mesh.problems.is_empty() => UNUSABLE,
        Some(State::Waits) => 1,
        Some(State::WouldWait | State::Unknown) => 3,
        Some(State::Safe) | None => 0,
    };
    Ok(Answer { text, status, problems: mesh.problems })
}
