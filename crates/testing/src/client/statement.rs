//! Statements: as text and prepared, with parameters and attributes.

use super::capability::QUERY_ATTRIBUTES;
use super::connection::Client;
use super::response::Response;

impl Client {
    /// Sends COM_QUERY without attributes, and reads the results.
    pub fn query(&mut self, statement: &str) -> Response {
        let payload = self.query_payload(statement);
        self.command(&payload);
        self.results()
    }

    /// The payload of [`Client::query`], for [`Client::pipeline`].
    pub fn query_payload(&self, statement: &str) -> Vec<u8> {
        let none: &[u8] = if self.has(QUERY_ATTRIBUTES) { &[0, 1] } else { &[] };
        [&[3], none, statement.as_bytes()].concat()
    }

    /// Sends COM_STMT_PREPARE, and reads the response.
    pub fn prepare(&mut self, statement: &str) -> Response {
        self.command(&[&[0x16], statement.as_bytes()].concat());
        self.prepare_response()
    }

    /// Sends COM_STMT_EXECUTE with texts as parameters, and reads the results. The value 1 of `flags` requests a cursor.
    pub fn execute(&mut self, statement: u32, flags: u8, parameters: &[&str]) -> Response {
        let payload = self.execute_payload(statement, flags, parameters, &[]);
        self.command(&payload);
        self.results_of(flags & 1 != 0)
    }

    /// Sends COM_STMT_EXECUTE of a CALL, and reads the results. The rows of a routine's cursor do not wait, whatever `flags`
    /// request.
    pub fn execute_call(&mut self, statement: u32, flags: u8) -> Response {
        let payload = self.execute_payload(statement, flags, &[], &[]);
        self.command(&payload);
        self.results_of(false)
    }

    /// The payload of [`Client::execute`], with query attributes (name, value) after the parameters.
    pub fn execute_payload(
        &self,
        statement: u32,
        flags: u8,
        parameters: &[&str],
        attributes: &[(&str, &str)],
    ) -> Vec<u8> {
        let unnamed = parameters.iter().map(|value| ("", *value));
        let values: Vec<_> = unnamed.chain(attributes.iter().copied()).collect();
        // PARAMETER_COUNT_AVAILABLE
        let flags = if attributes.is_empty() { flags } else { flags | 8 };
        let mut payload = [&[0x17], &statement.to_le_bytes()[..], &[flags, 1, 0, 0, 0]].concat();
        if !values.is_empty() {
            if self.has(QUERY_ATTRIBUTES) {
                payload.push(u8::try_from(values.len()).expect("few parameters"));
            }
            payload.extend(self.parameters(&values));
        }
        payload
    }

    /// The payload of COM_QUERY with query attributes.
    pub fn query_with_attributes(&self, statement: &str, attributes: &[(&str, &str)]) -> Vec<u8> {
        let count = u8::try_from(attributes.len()).expect("few attributes");
        [&[3, count, 1], self.parameters(attributes).as_slice(), statement.as_bytes()].concat()
    }

    /// NULL bitmap, types, names and values of texts shorter than 251 bytes.
    fn parameters(&self, values: &[(&str, &str)]) -> Vec<u8> {
        let mut payload = vec![0; values.len().div_ceil(8)];
        payload.push(1);
        let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
        for (name, _) in values {
            payload.extend([0xfe, 0]);
            if self.has(QUERY_ATTRIBUTES) {
                payload.extend(text(name));
            }
        }
        payload.extend(values.iter().flat_map(|(_, value)| text(value)));
        payload
    }
}
