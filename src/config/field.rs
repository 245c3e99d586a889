//! A JSON value together with its path: each getter expects a type and a range, and reports what it found instead.
//!
//! `inline(never)` where many callers would each get a copy: configuration is read once, the module's size counts.

use super::error::Problems;
use super::keys::Keys;
use super::node::Node;
use super::text::alternatives;

/// Keys longer than this are cut in paths.
const KEY_CHARS: usize = 64;

/// A value and where it stands. Getters give `None` after reporting a problem.
pub(super) struct Field<'n> {
    pub(super) at: String,
    pub(super) node: &'n Node,
}

impl<'n> Field<'n> {
    /// Reports that something else was expected here.
    #[inline(never)]
    pub(super) fn refuse(&self, expected: &str, problems: &mut Problems) {
        problems.add(&self.at, format!("expected {expected}, found {}", self.node));
    }

    /// An object with these keys: unknown and duplicate ones are reported.
    #[inline(never)]
    pub(super) fn object(&self, keys: &'static Keys, problems: &mut Problems) -> Option<Object<'n>> {
        let Node::Object(entries) = self.node else {
            let expected = if self.at == "$" { "a JSON object" } else { "an object" };
            self.refuse(expected, problems);
            return None;
        };
        for (key, _) in entries.iter().filter(|(key, _)| !keys.names.contains(&key.as_str())) {
            problems.add(&path_of_key(&self.at, key), keys.unknown(key));
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

    /// The text of a string, whatever it says; reports nothing.
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
            self.refuse(&alternatives(words), problems);
        }
        found
    }

    /// One of a few words, as what it means.
    pub(super) fn word<T: Copy>(&self, table: &[(&'static str, T)], problems: &mut Problems) -> Option<T> {
        let words: Vec<_> = table.iter().map(|(word, _)| *word).collect();
        let found = self.one_of(&words, problems)?;
        table.iter().find(|(word, _)| *word == found).map(|(_, meaning)| *meaning)
    }

    /// An array of a few words, each at most once; the ones that are right.
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

/// An object whose keys were checked.
pub(super) struct Object<'n> {
    pub(super) at: String,
    entries: &'n [(String, Node)],
}

impl<'n> Object<'n> {
    /// The value of a key, if it is there.
    #[inline(never)]
    pub(super) fn get(&self, key: &str) -> Option<Field<'n>> {
        let (_, node) = self.entries.iter().find(|entry| entry.0 == key)?;
        Some(Field { at: path_of_key(&self.at, key), node })
    }

    /// The object under a key, if it is there and right.
    pub(super) fn object(
        &self,
        key: &str,
        keys: &'static Keys,
        problems: &mut Problems,
    ) -> Option<Object<'n>> {
        self.get(key)?.object(keys, problems)
    }

    /// Whether there is any other key than this one.
    pub(super) fn has_more_than(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.0 != key)
    }
}

/// `$.rules` and `name` -> `$.rules.name`; a key which is no plain word is quoted: `$["a b"]`.
fn path_of_key(at: &str, key: &str) -> String {
    let plain = |key: &str| key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !key.is_empty() && key.len() <= KEY_CHARS && plain(key) {
        format!("{at}.{key}")
    } else {
        format!("{at}[{:?}]", key.chars().take(KEY_CHARS).collect::<String>())
    }
}
