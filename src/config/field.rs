//! A JSON value with its path. Each getter expects a type and a range, and reports any other value as a problem.
//!
//! Functions with many callers are `inline(never)`, because the size of the module counts and their speed does not.

use super::error::Problems;
use super::keys::{self, Keys};
use super::node::Node;
use super::text::alternatives;

/// Maximum number of characters of a key that a path shows.
const MAX_KEY_CHARS: usize = 64;

/// A value and its path. A getter that reports a problem returns `None`.
pub(super) struct Field<'n> {
    pub(super) at: String,
    pub(super) node: &'n Node,
}

impl<'n> Field<'n> {
    /// Reports that another value was expected here.
    #[inline(never)]
    pub(super) fn refuse(&self, expected: &str, problems: &mut Problems) {
        problems.add(&self.at, format!("expected {expected}, found {}", self.node));
    }

    /// An object with these keys. Reports unknown and duplicate keys.
    #[inline(never)]
    pub(super) fn object(&self, keys: &'static Keys, problems: &mut Problems) -> Option<Object<'n>> {
        let Node::Object(entries) = self.node else {
            let expected = if self.at == "$" { "a JSON object" } else { "an object" };
            self.refuse(expected, problems);
            return None;
        };
        for (key, _) in entries.iter().filter(|(key, _)| !keys.names.contains(&key.as_str())) {
            let suggestion = keys.nearest(key);
            let problem = keys.unknown(key, suggestion);
            problems.add_with_suggestion(&path_of_key(&self.at, key), problem, suggestion);
        }
        for name in keys.names {
            let times = entries.iter().filter(|(key, _)| key == name).count();
            if times > 1 {
                let problem = format!("expected the key once, found it {times} times");
                problems.add(&path_of_key(&self.at, name), problem);
            }
        }
        Some(Object { at: self.at.clone(), entries })
    }

    /// The items of an array of `what`, each with its path.
    pub(super) fn array(&self, what: &str, problems: &mut Problems) -> Option<Vec<Field<'n>>> {
        let Node::Array(items) = self.node else {
            self.refuse(&format!("an array of {what}"), problems);
            return None;
        };
        let field = |(index, node)| Field { at: format!("{}[{index}]", self.at), node };
        Some(items.iter().enumerate().map(field).collect())
    }

    /// A whole number from `min` to `max`.
    #[inline(never)]
    pub(super) fn integer(&self, min: u32, max: u32, problems: &mut Problems) -> Option<u32> {
        let number = match self.node {
            Node::Number(number) => number.as_u64().and_then(|number| u32::try_from(number).ok()),
            _ => None,
        };
        let found = number.filter(|number| (min..=max).contains(number));
        if found.is_none() {
            self.refuse(&format!("a whole number from {min} to {max}"), problems);
        }
        found
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self, problems: &mut Problems) -> Option<bool> {
        if let Node::Bool(value) = self.node {
            return Some(*value);
        }
        self.refuse("true or false", problems);
        None
    }

    /// The text of a string. Reports nothing.
    pub(super) fn text(&self) -> Option<&'n str> {
        match self.node {
            Node::String(text) => Some(text),
            _ => None,
        }
    }

    /// One of a few words.
    #[inline(never)]
    pub(super) fn one_of(&self, words: &[&'static str], problems: &mut Problems) -> Option<&'static str> {
        let found = self.text().and_then(|text| words.iter().find(|word| **word == text).copied());
        if found.is_none() {
            let key = self.at.rsplit('.').next().unwrap_or_default();
            match self.text().and_then(|text| keys::renamed_value(key, text, words)) {
                Some(new) => {
                    let expected = alternatives(words);
                    let problem = format!("expected {expected}, found {}, renamed to {new:?}", self.node);
                    problems.add(&self.at, problem);
                }
                None => self.refuse(&alternatives(words), problems),
            }
        }
        found
    }

    /// The meaning of one of a few words.
    pub(super) fn word<T: Copy>(&self, table: &[(&'static str, T)], problems: &mut Problems) -> Option<T> {
        let words: Vec<_> = table.iter().map(|(word, _)| *word).collect();
        let found = self.one_of(&words, problems)?;
        table.iter().find(|(word, _)| *word == found).map(|(_, meaning)| *meaning)
    }

    /// The valid words of an array that may hold each of a few words once.
    pub(super) fn some_of(
        &self,
        words: &[&'static str],
        problems: &mut Problems,
    ) -> Option<Vec<&'static str>> {
        let mut found = Vec::new();
        for item in self.array("strings", problems)? {
            let Some(word) = item.one_of(words, problems) else { continue };
            if found.contains(&word) {
                item.refuse("each only once", problems);
            } else {
                found.push(word);
            }
        }
        Some(found)
    }
}

/// An object with valid keys.
pub(super) struct Object<'n> {
    pub(super) at: String,
    entries: &'n [(String, Node)],
}

impl<'n> Object<'n> {
    /// The value of a key; `None` if the object does not have the key. The value of its former name is checked like its own, so
    /// that all problems are reported at once.
    #[inline(never)]
    pub(super) fn get(&self, key: &str) -> Option<Field<'n>> {
        let of = |key: &str| self.entries.iter().find(|entry| entry.0 == key);
        let (key, node) = of(key).or_else(|| of(keys::former_key(key)?))?;
        Some(Field { at: path_of_key(&self.at, key), node })
    }

    /// The object under a key; `None` if the object does not have the key, or if the value is not valid.
    pub(super) fn object(
        &self,
        key: &str,
        keys: &'static Keys,
        problems: &mut Problems,
    ) -> Option<Object<'n>> {
        self.get(key)?.object(keys, problems)
    }

    /// Whether the object has another key than this one.
    pub(super) fn has_other_than(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.0 != key)
    }
}

/// `$.rules` and `name` -> `$.rules.name`. A key that is not a plain word is quoted: `$["a b"]`.
fn path_of_key(at: &str, key: &str) -> String {
    let plain = |key: &str| key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !key.is_empty() && key.len() <= MAX_KEY_CHARS && plain(key) {
        format!("{at}.{key}")
    } else {
        format!("{at}[{:?}]", key.chars().take(MAX_KEY_CHARS).collect::<String>())
    }
}
