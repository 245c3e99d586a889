//! The configurations in a file.

use firstword::config::{Config, MAX_BYTES, SETTINGS, resemble_a_configuration};
use serde_json::Value;

use crate::reach::Reach;
use crate::wasm_filter::{WasmFilter, check};
use crate::{documents, find};

/// What a file contains.
pub(super) struct Contents {
    /// The configurations of Firstword. A file of another tool has none.
    pub(super) configurations: Vec<Configuration>,
    /// Wasm filters that are not taken for Firstword, each with its place.
    pub(super) others: Vec<String>,
}

/// A configuration in a file.
pub(super) struct Configuration {
    /// The place in the file; `None` if it is the whole file.
    pub(super) place: Option<String>,
    /// The configuration, or its problems, one line each.
    pub(super) checked: Result<Config, Vec<String>>,
    /// The connections that the filter sees; empty if this is not known.
    pub(super) reach: Vec<Reach>,
    /// Whether the text is empty.
    pub(super) is_empty: bool,
}

/// Reads a file. An error says why it cannot be read.
pub(super) fn read(bytes: &[u8]) -> Result<Contents, String> {
    let is_object = bytes.trim_ascii_start().starts_with(b"{");
    if bytes.trim_ascii().is_empty() {
        return Ok(whole_file(check(b""), true));
    }
    let documents = match documents::parse(bytes) {
        Ok(documents) => documents,
        Err(error) => return of_broken_file(bytes, is_object, error),
    };
    let mut filters: Vec<(usize, WasmFilter)> = Vec::new();
    for (document, number) in documents.iter().zip(1..) {
        filters.extend(find::wasm_filters(document)?.into_iter().map(|filter| (number, filter)));
    }
    if filters.is_empty()
        && let [document] = documents.as_slice()
    {
        if is_object && is_configuration(document) {
            return Ok(whole_file(check(bytes), false));
        }
        if is_configuration_in_yaml(document) {
            return Ok(whole_file(in_yaml(document), false));
        }
    }
    let only = filters.len() == 1;
    let (ours, others): (Vec<_>, Vec<_>) = filters.into_iter().partition(|(_, filter)| filter.named || only);
    let place = |document: usize, filter: &WasmFilter| format!("document {document}: {}", filter.at);
    let configuration = |(document, filter): (usize, WasmFilter)| Configuration {
        place: Some(place(document, &filter)),
        checked: filter.checked,
        reach: filter.reach,
        is_empty: false,
    };
    Ok(Contents {
        others: others.iter().map(|(document, filter)| place(*document, filter)).collect(),
        configurations: ours.into_iter().map(configuration).collect(),
    })
}

fn whole_file(checked: Result<Config, Vec<String>>, is_empty: bool) -> Contents {
    let configuration = Configuration { place: None, checked, reach: Vec::new(), is_empty };
    Contents { configurations: vec![configuration], others: Vec::new() }
}

/// A file that is neither JSON nor YAML.
fn of_broken_file(bytes: &[u8], is_object: bool, error: String) -> Result<Contents, String> {
    let has = |part: &str| bytes.windows(part.len()).any(|window| window == part.as_bytes());
    if has("{{") && has("}}") {
        let advice = "render it first, as in: helm template CHART | firstword check-config -";
        return Err(format!("it looks like a template that is not rendered; {advice} ({error})"));
    }
    if !is_object || bytes.len() > MAX_BYTES {
        return Err(error);
    }
    if find::KEYS_OF_OTHER_TOOLS.iter().any(|key| has(&format!("\"{key}\""))) {
        let error = serde_json::from_slice::<Value>(bytes).err().map_or(error, |error| error.to_string());
        return Err(format!("expected JSON, found a syntax error: {error}"));
    }
    // The filter's own message about a syntax error is the best one.
    Ok(whole_file(check(bytes), false))
}

/// Whether a JSON document is a configuration, perhaps with misspelt keys.
fn is_configuration(document: &Value) -> bool {
    let Some(entries) = document.as_object() else { return false };
    let keys: Vec<_> = entries.keys().map(String::as_str).collect();
    resemble_a_configuration(&keys) && !find::is_of_another_tool(document)
}

/// Whether every key is one of the root of a configuration.
fn is_configuration_in_yaml(document: &Value) -> bool {
    let is_root =
        |key: &String| SETTINGS.iter().any(|setting| setting.path.split(['.', '[']).next() == Some(key));
    document.as_object().is_some_and(|entries| !entries.is_empty() && entries.keys().all(is_root))
}

fn in_yaml(document: &Value) -> Result<Config, Vec<String>> {
    let mut problems = vec!["$: expected JSON, found YAML, which the filter does not read".to_owned()];
    problems.extend(check(document.to_string().as_bytes()).err().into_iter().flatten());
    Err(problems)
}
