//! Reads the configuration and the statistics from files or from Envoy.

use std::path::Path;

use firstword::escape;

use super::admin;
use super::envoy::dump::Dump;
use super::statistics::Statistics;
use crate::documents;

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
    let dump = parse(bytes).and_then(Dump::read).map_err(|problem| named(&name, problem))?;
    Ok(Input::new(name, dump, read_statistics(statistics)?))
}

/// Reads both. An error begins with the name of the input.
pub(super) fn read(input: &Path, statistics: Option<&Path>) -> Result<Input, String> {
    let given = input.to_string_lossy();
    let given_statistics = read_statistics(statistics)?;
    let is_file = given == "-" || input.exists();
    let address = admin::Address::parse(&given).filter(|_| !is_file).transpose();
    let address = address.map_err(|problem| named(&given, problem))?;
    let (name, bytes, fetched) = match &address {
        Some(address) => {
            let get = |path: &str| address.get(path).map_err(|problem| named(&address.url(path), problem));
            let bytes = get("/config_dump?include_eds")?;
            let fetched = match given_statistics {
                Some(_) => None,
                None => {
                    let read = Statistics::read(&get("/stats")?);
                    Some(read.map_err(|problem| named(&address.url("/stats"), problem))?)
                }
            };
            (address.url("/config_dump"), bytes, fetched)
        }
        None => {
            let name = if given == "-" { "standard input".to_owned() } else { given.to_string() };
            let bytes = documents::read(input).map_err(|problem| named(&name, problem))?;
            (name, bytes, None)
        }
    };
    let mut dump = parse(&bytes).and_then(Dump::read).map_err(|problem| named(&name, problem))?;
    if let Some(address) = address.filter(|_| dump.has_chosen_ports()) {
        let path = "/listeners?format=json";
        let statuses = address.get(path).and_then(|bytes| {
            serde_json::from_slice(&bytes)
                .map_err(|error| format!("expected JSON, found other text: {error}"))
        });
        let set = statuses.and_then(|statuses| dump.set_chosen_ports(&statuses));
        set.map_err(|problem| named(&address.url(path), problem))?;
    }
    Ok(Input::new(name, dump, given_statistics.or(fetched)))
}

fn read_statistics(path: Option<&Path>) -> Result<Option<Statistics>, String> {
    let Some(path) = path else { return Ok(None) };
    let read = documents::read(path).and_then(|bytes| Statistics::read(&bytes));
    read.map(Some).map_err(|problem| named(&path.to_string_lossy(), problem))
}

fn named(what: &str, problem: impl AsRef<str>) -> String {
    format!("{}: {}", escape::text(what), escape::text(problem.as_ref()))
}

/// Reads JSON or YAML. A text that begins like JSON and is not valid is more probably incomplete JSON than YAML.
fn parse(bytes: &[u8]) -> Result<Vec<serde_json::Value>, String> {
    let begins_like_json = bytes.trim_ascii_start().first().is_some_and(|first| b"{[".contains(first));
    documents::parse(bytes).map_err(|error| match serde_json::from_slice::<serde_json::Value>(bytes) {
        Err(json) if begins_like_json => format!("expected JSON, found a syntax error: {json}"),
        _ => error,
    })
}
