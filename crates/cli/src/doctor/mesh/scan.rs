//! Reads the dumps of a folder, one after the other.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::destination::Destination;
use super::super::envoy::dump::Dump;
use super::super::input::{self, named};
use super::super::requested::requested;
use super::super::target::Target;
use super::rows::Rows;

/// Maximum number of files in the folder.
const MAX_FILES: usize = 100_000;

/// Maximum number of unusable files that are named.
const MAX_PROBLEMS: usize = 100;

/// A folder of dumps.
pub(super) struct Mesh {
    pub(super) folder: String,
    pub(super) rows: Rows,
    /// Files that are no dumps, each with the reason.
    pub(super) problems: Vec<String>,
}

impl Mesh {
    /// Examines each file of a folder. A file that is no dump is a problem, and does not keep the others from being examined.
    pub(super) fn scan(folder: &Path, dest: &[Target]) -> Result<Self, String> {
        let name = folder.to_string_lossy().into_owned();
        let files = files(folder).map_err(|problem| named(&name, &problem))?;
        let mut mesh = Self { folder: name, rows: Rows::default(), problems: Vec::new() };
        let mut unnamed = 0_usize;
        for file in files {
            match read(&file, dest) {
                Ok((pod, dump, requested)) => mesh.rows.add(&pod, dump, requested)?,
                Err(problem) if mesh.problems.len() < MAX_PROBLEMS => mesh.problems.push(problem),
                Err(_) => unnamed = unnamed.saturating_add(1),
            }
        }
        if unnamed > 0 {
            mesh.problems.push(format!("{unnamed} more files are no dumps"));
        }
        Ok(mesh)
    }
}

/// The pod of a file, its dump, and the destinations that the user named.
fn read(file: &Path, dest: &[Target]) -> Result<(String, Dump, Option<Vec<Destination>>), String> {
    let source = input::source(file)?;
    let dump = Dump::read(source.documents).map_err(|problem| named(&source.name, &problem))?;
    let requested = (!dest.is_empty()).then(|| requested(&dump, dest, None)).transpose();
    let requested = requested.map_err(|problem| named(&source.name, &problem))?;
    let of_file = || file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let pod = dump.node.pod().map_or_else(of_file, str::to_owned);
    Ok((pod, dump, requested))
}

/// The files of a folder in the order of their names, without those whose name begins with a dot.
fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("expected a folder of dumps: {error}"))?;
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| format!("cannot read the folder: {error}"))?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if files.len() >= MAX_FILES {
            return Err(format!("expected at most {MAX_FILES} files, found more"));
        }
        files.push(entry.path());
    }
    if files.is_empty() {
        return Err("expected dumps in the folder, found no file".to_owned());
    }
    files.sort();
    Ok(files)
}
