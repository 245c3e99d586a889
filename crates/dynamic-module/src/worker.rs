//! The connections of a worker, and their ticks.
//!
//! Only the worker may touch its connections, and only an event about a connection reaches it. So one connection of each
//! worker is its carrier: the main thread posts an event to it, and the worker then ticks all its connections.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Weak;
use std::sync::Mutex;

use crate::abi::{ConnectionHandle, Scheduler};
use crate::configuration::lock;

/// Connection that its worker knows.
pub(crate) trait Listed {
    /// Takes the time.
    fn tick(&self);
    /// Takes bytes that its partner hands over.
    fn take(&self, bytes: &[u8]);
}

/// Connection in a list of its worker.
pub(crate) struct Entry {
    pub(crate) handle: ConnectionHandle,
    pub(crate) connection: Weak<dyn Listed>,
}

/// Key of a connection, which is unique on its worker.
pub(crate) type Key = u64;

#[derive(Default)]
struct Worker {
    last_key: Key,
    connections: BTreeMap<Key, Entry>,
    carrier: Option<Key>,
}

thread_local! {
    static WORKER: RefCell<Worker> = RefCell::default();
}

/// Scheduler of the carrier of each worker.
static CARRIERS: Mutex<BTreeMap<u32, Scheduler>> = Mutex::new(BTreeMap::new());

/// Adds a connection of this worker.
pub(crate) fn add(handle: ConnectionHandle, connection: Weak<dyn Listed>) -> Key {
    WORKER.with_borrow_mut(|worker| {
        worker.last_key = worker.last_key.wrapping_add(1);
        let key = worker.last_key;
        worker.connections.insert(key, Entry { handle, connection });
        if worker.carrier.is_none() {
            worker.set_carrier(key, handle);
        }
        key
    })
}

/// Removes a connection of this worker. Another one becomes the carrier if this was it.
///
/// It is called before Envoy destroys the connection, and the lock ends before the return. So the main thread never holds
/// the last reference to a connection.
pub(crate) fn remove(key: Key) {
    WORKER.with_borrow_mut(|worker| {
        let Some(removed) = worker.connections.remove(&key) else { return };
        if worker.carrier == Some(key) {
            worker.carrier = None;
            match worker.connections.first_key_value().map(|(key, entry)| (*key, entry.handle)) {
                Some((key, handle)) => worker.set_carrier(key, handle),
                None => drop(lock(&CARRIERS).remove(&removed.handle.worker())),
            }
        }
    });
}

impl Worker {
    fn set_carrier(&mut self, key: Key, handle: ConnectionHandle) {
        self.carrier = Some(key);
        lock(&CARRIERS).insert(handle.worker(), handle.scheduler());
    }
}

/// Makes all workers tick their connections.
pub(crate) fn post_ticks() {
    lock(&CARRIERS).values().for_each(Scheduler::post);
}

/// Ticks all connections of this worker.
pub(crate) fn tick() {
    // A tick can close a connection, which removes it.
    let all: Vec<_> = WORKER.with_borrow(|worker| {
        worker.connections.values().filter_map(|entry| entry.connection.upgrade()).collect()
    });
    all.iter().for_each(|connection| connection.tick());
}
