//! What is wrong with a configuration: every problem, each with its place.

use std::fmt;

use crate::escape;

/// One problem in a configuration, fit for a log and a terminal: keys and values in it were escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// JSON path of the offending value, such as `$.rules[0].match.ports[1]`; `$` is the whole configuration.
    pub at: String,
    /// One line: what was expected and what was found.
    pub problem: String,
}

impl ConfigError {
    /// The only constructor, because a configuration's keys and values may hold anything: both texts are escaped.
    pub(super) fn new(at: &str, problem: &str) -> Self {
        Self { at: escape::text(at), problem: escape::text(problem) }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.problem)
    }
}

impl std::error::Error for ConfigError {}

/// Every problem of one configuration; never empty. `Display` gives one line each, without a last line end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// The problems, roughly in the order of the schema.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a ConfigErrors {
    type Item = &'a ConfigError;
    type IntoIter = std::slice::Iter<'a, ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Maximum number of problems that are reported, because each is a line in Envoy's log.
const MAX_PROBLEMS: usize = 1000;

/// The problems met so far: readers add to it and go on, so that all are reported in one go.
#[derive(Default)]
pub(super) struct Problems {
    first: Vec<ConfigError>,
    count: usize,
}

impl Problems {
    #[inline(never)]
    pub(super) fn add(&mut self, at: &str, problem: String) {
        if self.first.len() < MAX_PROBLEMS {
            self.first.push(ConfigError::new(at, &problem));
        }
        self.count = self.count.saturating_add(1);
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The value, if there was no problem.
    pub(super) fn or<T>(self, value: T) -> Result<T, ConfigErrors> {
        let Self { mut first, count } = self;
        if count == 0 {
            return Ok(value);
        }
        let more = count.saturating_sub(first.len());
        if more > 0 {
            first.push(ConfigError::new("$", &format!("{more} more problems, which are not listed")));
        }
        Err(ConfigErrors(first))
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}
