//! The two parts of one connection that passes two listeners of this Envoy: one without TLS, and one that ends TLS.
//!
//! Both parts have the client's address and the address that the client connected to, because the second listener gets them
//! in a PROXY header. An internal listener accepts a connection on the worker that made it, so both parts are there.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::rc::{Rc, Weak};

use crate::abi::ConnectionHandle;
use crate::worker::{Entry, Listed};

#[derive(Default)]
struct Parts {
    /// Keys of the hashes, which no peer knows. So a peer cannot find addresses with the hash of other addresses.
    hasher: RandomState,
    parts: BTreeMap<u64, Entry>,
}

thread_local! {
    static PARTS: RefCell<Parts> = RefCell::default();
}

/// One part of a connection: the hash of its addresses, and that of its partner. They differ in whether Envoy ends TLS.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    own: u64,
    partner: u64,
}

impl Part {
    /// Adds a part. `None` if Envoy does not report its addresses.
    pub(crate) fn add(handle: ConnectionHandle, connection: Weak<dyn Listed>) -> Option<Self> {
        let (client, destination, is_tls) = (handle.peer()?, handle.destination()?, handle.is_tls());
        PARTS.with_borrow_mut(|list| {
            let [own, partner] =
                [is_tls, !is_tls].map(|is_tls| list.hasher.hash_one((&client, &destination, is_tls)));
            list.parts.insert(own, Entry { handle, connection });
            Some(Self { own, partner })
        })
    }

    /// Returns the partner. `None` if it has not begun, or has ended.
    pub(crate) fn partner(self) -> Option<Rc<dyn Listed>> {
        PARTS.with_borrow(|list| list.parts.get(&self.partner)?.connection.upgrade())
    }

    /// Removes the part. A later connection can have the same addresses, and stays.
    pub(crate) fn remove(self, handle: ConnectionHandle) {
        PARTS.with_borrow_mut(|list| {
            if list.parts.get(&self.own).is_some_and(|part| part.handle == handle) {
                list.parts.remove(&self.own);
            }
        });
    }
}
