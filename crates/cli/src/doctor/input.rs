//! Reads the configuration and the statistics from files or from Envoy.

use std::path::Path;

use firstword::escape;

use super::admin;
use super::envoy::dump::Dump;
use super::statistics::Statistics;
use crate::documents;

/// What to do about an input that does not exist.
const NO_FILE: &str = "; save a dump by \"istioctl proxy-config all POD -o json\", or name Envoy's admin interface as HOST:PORT";

pub(super) struct Input {
    /// The name of the input in texts.
    pub(super) name: String,
    pub(super) dump: Dump,
    pub(super) statistics: Option<Statistics>,
}

impl Input {
    fn new(name: String, mut dump: Dump, statistics: Option<Statistics>) -> Self {
        if let Some(statistics) = &statistics {
            dump.refuse_filters(|filter| statistics.has_refused_filter(filter));
        }
        Self { name, dump, statistics }
    }
}

/// Takes a configuration that was read from a cluster, and reads statistics.
pub(super) fn fetched(name: &Path, bytes: &[u8], statistics: Option<&Path>) -> Result<Input, String> {
    let name = name.to_string_lossy().into_owned();
    let dump = parse(bytes).and_then(Dump::read).map_err(|problem| named(&name, &problem))?;
    Ok(Input::new(name, dump, statistics.map(statistics_of).transpose()?))
}

/// The documents of an input, before they are understood.
pub(super) struct Source {
    pub(super) name: String,
    pub(super) documents: Vec<serde_json::Value>,
    /// Envoy's admin interface, if they come from there.
    address: Option<admin::Address>,
}

/// Reads an input, and the statistics: those of the file if one is given, otherwise those of the admin interface.
pub(super) fn with_statistics(
    input: &Path,
    statistics: Option<&Path>,
) -> Result<(Source, Option<Statistics>), String> {
    let given = statistics.map(statistics_of).transpose()?;
    let source = source(input)?;
    let statistics = match given {
        Some(given) => Some(given),
        None => source.statistics()?,
    };
    Ok((source, statistics))
}

/// Reads both. An error begins with the name of the input.
pub(super) fn read(input: &Path, statistics: Option<&Path>) -> Result<Input, String> {
    let (source, statistics) = with_statistics(input, statistics)?;
    let Source { name, documents, address } = source;
    let mut dump = Dump::read(documents).map_err(|problem| named(&name, &problem))?;
    if let Some(address) = address.filter(|_| dump.has_chosen_ports()) {
        let path = "/listeners?format=json";
        let statuses = address.get(path).and_then(|bytes| {
            serde_json::from_slice(&bytes)
                .map_err(|error| format!("expected JSON, found other text: {error}"))
        });
        let set = statuses.and_then(|statuses| dump.set_chosen_ports(&statuses));
        set.map_err(|problem| named(&address.url(path), &problem))?;
    }
    Ok(Input::new(name, dump, statistics))
}

/// A problem with the name of the input in front.
pub(super) fn named(what: &str, problem: &str) -> String {
    format!("{}: {}", escape::text(what), escape::text(problem))
}

/// Reads a file or the admin interface.
pub(super) fn source(input: &Path) -> Result<Source, String> {
    let given = input.to_string_lossy();
    let is_file = given == "-" || input.exists();
    let address = admin::Address::parse(&given).filter(|_| !is_file).transpose();
    let address = address.map_err(|problem| named(&given, &problem))?;
    let (name, bytes) = match &address {
        Some(address) => {
            let path = "/config_dump?include_eds";
            let bytes = address.get(path).map_err(|problem| named(&address.url(path), &problem))?;
            (address.url("/config_dump"), bytes)
        }
        None => {
            let name = if given == "-" { "standard input".to_owned() } else { given.to_string() };
            if is_file && input.is_dir() {
                return Err(named(&name, "it is a folder: examine its dumps with --mesh, or name one file"));
            }
            let what_to_do = if is_file { "" } else { NO_FILE };
            let bytes = documents::read(input).map_err(|problem| named(&name, &(problem + what_to_do)))?;
            (name, bytes)
        }
    };
    let documents = parse(&bytes).map_err(|problem| named(&name, &problem))?;
    Ok(Source { name, documents, address })
}

impl Source {
    /// The statistics, if the source is the admin interface.
    fn statistics(&self) -> Result<Option<Statistics>, String> {
        let Some(address) = &self.address else { return Ok(None) };
        let read = address.get("/stats").and_then(|bytes| Statistics::read(&bytes));
        read.map(Some).map_err(|problem| named(&address.url("/stats"), &problem))
    }
}

/// Reads a file of statistics.
fn statistics_of(path: &Path) -> Result<Statistics, String> {
    let read = documents::read(path).and_then(|bytes| Statistics::read(&bytes));
    read.map_err(|problem| named(&path.to_string_lossy(), &problem))
}

/// Reads JSON or YAML. A text that begins like JSON and is not valid is more probably incomplete JSON than YAML.
fn parse(bytes: &[u8]) -> Result<Vec<serde_json::Value>, String> {
    let begins_like_json = bytes.trim_ascii_start().first().is_some_and(|first| b"{[".contains(first));
    documents::parse(bytes).map_err(|error| match serde_json::from_slice::<serde_json::Value>(bytes) {
        Err(json) if begins_like_json => format!("expected JSON, found a syntax error: {json}"),
        _ => error,
    })
}
