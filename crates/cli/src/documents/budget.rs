//! The memory of the values of a file, counted before they are created. In YAML, an alias takes a few bytes in the file and
//! a whole copy of a value in memory.

use std::cell::Cell;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};

/// Charge for a value and for a key in bytes, in addition to its text.
const VALUE: usize = 64;

/// Maximum charge of all documents of a file in bytes: a constant, and an amount for each byte of the file. A file without
/// aliases exceeds it only if it holds almost only numbers and brackets.
const MAX: usize = 64 << 20;
const PER_BYTE: usize = 8;

/// The charge that is still possible.
pub(super) struct Budget {
    max: usize,
    left: Cell<usize>,
    spent: Cell<bool>,
}

impl Budget {
    /// The budget of a file of this length.
    pub(super) fn of(length: usize) -> Self {
        let max = length.saturating_mul(PER_BYTE).saturating_add(MAX);
        Self { max, left: Cell::new(max), spent: Cell::new(false) }
    }

    /// Reads a document without creating a value. An error is the end of the budget or a problem of the document.
    pub(super) fn charge<'de, D: Deserializer<'de>>(&self, document: D) -> Result<(), D::Error> {
        Charge(self).deserialize(document)
    }

    /// Whether the document takes too much memory.
    pub(super) fn is_spent(&self) -> bool {
        self.spent.get()
    }

    fn take<E: Error>(&self, text: usize) -> Result<(), E> {
        match self.left.get().checked_sub(text.saturating_add(VALUE)) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => {
                self.spent.set(true);
                let max = self.max >> 20;
                Err(E::custom(format_args!(
                    "expected values that take at most {max} MiB when all aliases are replaced, found more"
                )))
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Charge<'b>(&'b Budget);

impl<'de> DeserializeSeed<'de> for Charge<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Charge<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.0.take(0)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.0.take(0)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.0.take(0)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.0.take(0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.0.take(text.len())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.0.take(0)
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.0.take(0)
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<(), D::Error> {
        self.deserialize(inner)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<(), D::Error> {
        self.deserialize(inner)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.0.take(0)?;
        while items.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        self.0.take(0)?;
        while entries.next_key_seed(self)?.is_some() {
            entries.next_value_seed(self)?;
        }
        Ok(())
    }

    /// A value with a tag.
    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<(), A::Error> {
        let (IgnoredAny, value) = tagged.variant()?;
        value.newtype_variant_seed(self)
    }
}
