//! All problems of a configuration, each with its JSON path.

use std::fmt;

use crate::escape;

/// One problem in a configuration. Its keys and values are escaped, so that it is safe in a log and in a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// JSON path of the offending value, such as `$.rules[0].match.ports[1]`; `$` is the whole configuration.
    pub at: String,
    /// One line: the expected value and the value found.
    pub problem: String,
    /// See [`ConfigError::suggestion`].
    suggestion: Option<&'static str>,
}

impl ConfigError {
    /// The only constructor. It escapes both texts, because a configuration's keys and values may hold any character.
    pub(super) fn new(at: &str, problem: &str) -> Self {
        Self { at: escape::text(at), problem: escape::text(problem), suggestion: None }
    }

    /// The key that a misspelt key resembles. `None` if the problem is another one, or if the key resembles no known key.
    #[must_use]
    pub fn suggestion(&self) -> Option<&'static str> {
        self.suggestion
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.problem)
    }
}

impl std::error::Error for ConfigError {}

/// All problems of one configuration; never empty. `Display` writes one line for each, without a final line feed.
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

/// The problems found so far. Readers add a problem and continue, so that all of them are reported at once.
#[derive(Default)]
pub(super) struct Problems {
    first: Vec<ConfigError>,
    count: usize,
}

impl Problems {
    pub(super) fn add(&mut self, at: &str, problem: String) {
        self.add_with_suggestion(at, problem, None);
    }

    #[inline(never)]
    pub(super) fn add_with_suggestion(
        &mut self,
        at: &str,
        problem: String,
        suggestion: Option<&'static str>,
    ) {
        if self.first.len() < MAX_PROBLEMS {
            self.first.push(ConfigError { suggestion, ..ConfigError::new(at, &problem) });
        }
        self.count = self.count.saturating_add(1);
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The value, if no problem was added.
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

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn only_a_misspelt_key_has_a_suggestion_and_the_text_shows_it() {
        let text = r#"{"rulez": [], "mode": "fast", "(did you mean \"tls\"?)": 1}"#;
        let errors = Config::parse(text.as_bytes()).unwrap_err();
        let found: Vec<_> = errors.iter().map(|error| (error.at.as_str(), error.suggestion())).collect();
        let quoted = r#"$["(did you mean \"tls\"?)"]"#;
        assert_eq!(found, [("$.rulez", Some("rules")), (quoted, None), ("$.mode", None)]);
        assert!(errors.to_string().starts_with("$.rulez: unknown key (did you mean \"rules\"?), expected"));
    }
}
