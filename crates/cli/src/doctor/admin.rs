//! Envoy's admin interface.

use std::time::Duration;

/// Maximum time of one response. A dump of a large mesh takes seconds.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Maximum length of a response in bytes, the same as for files.
const MAX_BYTES: u64 = crate::documents::MAX_BYTES;

/// The address of an admin interface: `http://HOST:PORT`.
pub(super) struct Address(String);

impl Address {
    /// Reads `HOST:PORT` or a URL; `None` if the text is neither.
    pub(super) fn parse(text: &str) -> Option<Result<Self, String>> {
        if let Some((scheme, rest)) = text.split_once("://") {
            if scheme != "http" {
                return Some(Err(format!(
                    "expected http://HOST:PORT, as Envoy's admin interface has no {scheme}"
                )));
            }
            let authority = rest.split(['/', '?']).next().unwrap_or_default();
            let valid = !authority.is_empty() && !authority.contains('@');
            return Some(if valid {
                Ok(Self(format!("http://{authority}")))
            } else {
                Err("expected http://HOST:PORT".to_owned())
            });
        }
        let (host, port) = text.rsplit_once(':')?;
        let is_host = !host.is_empty() && !host.contains('/');
        (is_host && port.parse::<u16>().is_ok()).then(|| Ok(Self(format!("http://{text}"))))
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }

    /// The body of a response with status 200.
    pub(super) fn get(&self, path: &str) -> Result<Vec<u8>, String> {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            // The admin interface is local. Requests to it never use another proxy.
            .proxy(None)
            .max_redirects(0)
            .build();
        let response = ureq::Agent::new_with_config(config).get(self.url(path)).call();
        let mut response = response.map_err(|error| {
            format!("cannot be reached: {error}; for a pod, first run \"kubectl port-forward POD 15000\"")
        })?;
        if response.status() != 200 {
            return Err(format!(
                "expected Envoy's admin interface, found an answer with status {}",
                response.status()
            ));
        }
        let body = response.body_mut().with_config().limit(MAX_BYTES).read_to_vec();
        body.map_err(|error| format!("cannot read it: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_or_a_url_is_an_address() {
        let url = |text| Address::parse(text).map(|parsed| parsed.map(|address| address.url("/x")));
        for text in ["localhost:15000", "http://localhost:15000", "http://localhost:15000/config_dump?a"] {
            assert_eq!(url(text), Some(Ok("http://localhost:15000/x".to_owned())), "{text}");
        }
        assert_eq!(url("[::1]:9901"), Some(Ok("http://[::1]:9901/x".to_owned())));
        assert!(url("https://localhost:15000").unwrap().is_err());
        assert!(url("http://").unwrap().is_err());
        for text in ["dump.json", "a/b:80", ":80", "host:port", "host:99999"] {
            assert_eq!(url(text), None, "{text}");
        }
    }
}
