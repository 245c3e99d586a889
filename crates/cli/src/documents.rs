//! Reads the YAML or JSON documents of a file.

mod budget;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use budget::Budget;
use serde::Deserialize;
use serde_json::Value;

/// Maximum length of a file in bytes. A configuration dump of a large mesh is smaller.
pub(crate) const MAX_BYTES: u64 = 64 << 20;

/// Maximum number of open brackets, because the YAML reader needs quadratic time before it refuses a deep document.
const MAX_OPEN_BRACKETS: usize = 10_000;

/// Reads a whole file; `-` is the standard input.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, String> {
    if path.is_dir() {
        return Err("it is a folder; name its files, for example by find and xargs".to_owned());
    }
    let input: io::Result<Box<dyn Read>> = match path.to_str() {
        Some("-") => Ok(Box::new(io::stdin())),
        _ => File::open(path).map(|file| Box::new(file) as Box<dyn Read>),
    };
    input.map_err(cannot_read).and_then(read_all)
}

/// Reads everything that is not too long.
pub(crate) fn read_all(input: impl Read) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    input.take(MAX_BYTES.saturating_add(1)).read_to_end(&mut bytes).map_err(cannot_read)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= MAX_BYTES) {
        Ok(bytes)
    } else {
        Err(format!("larger than {} MiB", MAX_BYTES >> 20))
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn cannot_read(error: io::Error) -> String {
    format!("cannot read it: {error}")
}

/// The documents of a file. Tries JSON first, because YAML readers cannot read all JSON.
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<Value>, String> {
    let budget = Budget::of(bytes.len());
    match budget.charge(&mut serde_json::Deserializer::from_slice(bytes)) {
        Ok(()) => {
            if let Ok(document) = serde_json::from_slice(bytes) {
                return Ok(vec![document]);
            }
        }
        Err(error) if budget.is_spent() => return Err(error.to_string()),
        Err(_) => {}
    }
    let text = std::str::from_utf8(bytes).map_err(|error| format!("neither YAML nor JSON: {error}"))?;
    let mut open = 0_usize;
    for byte in bytes {
        match byte {
            b'[' | b'{' => open = open.saturating_add(1),
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > MAX_OPEN_BRACKETS {
            return Err(format!("more than {MAX_OPEN_BRACKETS} open brackets"));
        }
    }
    let budget = Budget::of(bytes.len());
    for (number, document) in (1_usize..).zip(serde_norway::Deserializer::from_str(text)) {
        budget.charge(document).map_err(|error| format!("document {number}: {error}"))?;
    }
    let mut documents = Vec::new();
    for (number, document) in (1_usize..).zip(serde_norway::Deserializer::from_str(text)) {
        documents.push(yaml(document).map_err(|error| format!("document {number}: {error}"))?);
    }
    Ok(documents)
}

fn yaml(document: serde_norway::Deserializer<'_>) -> Result<Value, String> {
    let mut value = serde_norway::Value::deserialize(document).map_err(|error| error.to_string())?;
    value.apply_merge().map_err(|error| error.to_string())?;
    serde_json::to_value(value).map_err(|error| error.to_string())
}
