//! The VM's linear memory, and the budget that the state of connections has in it. Both belong to the VM and not to a
//! plugin: Envoy puts all plugins with the same module and `vm_id` into one VM, and only one of them may report the linear
//! memory.

use std::cell::Cell;

thread_local! {
    static VM: Cell<Vm> = const { Cell::new(Vm { plugins: 0, reported: 0, connection_state: 0, connections: 0 }) };
}

/// Sizes are in bytes.
#[derive(Clone, Copy)]
struct Vm {
    plugins: u32,
    /// What the plugins of this VM have told so far.
    reported: i64,
    /// What the shares of all connections sum up to.
    connection_state: usize,
    /// Number of connections that have a share.
    connections: usize,
}

impl Vm {
    fn begin(&mut self) {
        self.plugins = self.plugins.saturating_add(1);
    }

    fn change(&mut self, size: i64) -> i64 {
        size.saturating_sub(std::mem::replace(&mut self.reported, size))
    }

    fn end(&mut self) -> i64 {
        self.plugins = self.plugins.saturating_sub(1);
        if self.plugins == 0 { self.change(0) } else { 0 }
    }
}

/// What one connection takes of the budget of connection state. It gives it back when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Share(usize);

impl Share {
    /// Takes `bytes` instead of what it takes now.
    pub(super) fn set(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.0, bytes);
        if before != bytes {
            with_vm(|vm| {
                vm.connection_state = vm.connection_state.saturating_sub(before).saturating_add(bytes);
                let (left, came) = (usize::from(before > 0), usize::from(bytes > 0));
                vm.connections = vm.connections.saturating_sub(left).saturating_add(came);
            });
        }
    }

    /// What it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.0
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Memory of the state of all connections in this VM, in bytes: the gauge `connection_state_bytes` between two ticks.
#[must_use]
pub fn connection_state() -> usize {
    with_vm(|vm| vm.connection_state)
}

/// Number of connections of this VM that have a share.
pub(super) fn connections() -> usize {
    with_vm(|vm| vm.connections)
}

/// A plugin's share in telling the memory of its VM.
#[derive(Debug)]
pub(super) struct VmMemory(());

impl VmMemory {
    pub(super) fn new() -> Self {
        with_vm(Vm::begin);
        Self(())
    }

    /// By how many bytes the memory changed since one of the VM's plugins last asked.
    pub(super) fn change(&self) -> i64 {
        with_vm(|vm| vm.change(linear_memory()))
    }

    /// What is to be taken back because this plugin ends: all of it, if it is the VM's last one.
    pub(super) fn end(self) -> i64 {
        with_vm(Vm::end)
    }
}

fn with_vm<T>(what: impl FnOnce(&mut Vm) -> T) -> T {
    VM.with(|cell| {
        let mut vm = cell.get();
        let answer = what(&mut vm);
        cell.set(vm);
        answer
    })
}

/// In bytes.
#[cfg(target_arch = "wasm32")]
fn linear_memory() -> i64 {
    const PAGE: i64 = 65_536;
    i64::try_from(core::arch::wasm32::memory_size(0)).unwrap_or(0).saturating_mul(PAGE)
}

/// A native test has no linear memory.
#[cfg(not(target_arch = "wasm32"))]
fn linear_memory() -> i64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_of_one_vm_tell_its_memory_once_and_the_last_takes_it_back() {
        let mut vm = Vm { plugins: 0, reported: 0, connection_state: 0, connections: 0 };
        vm.begin();
        assert_eq!(vm.change(1000), 1000);
        vm.begin();
        assert_eq!(vm.change(1000), 0, "told by the first");
        assert_eq!(vm.change(1500), 500);
        assert_eq!(vm.end(), 0, "the other one lives");
        assert_eq!(vm.change(1600), 100);
        assert_eq!(vm.end(), -1600);
        vm.begin();
        assert_eq!(vm.change(1700), 1700, "a plugin that begins when all have ended tells all of it");
    }

    #[test]
    fn shares_sum_up_and_are_given_back() {
        let (mut one, mut two) = (Share::default(), Share::default());
        one.set(100);
        two.set(50);
        one.set(70);
        assert_eq!((connection_state(), connections(), one.bytes()), (120, 2, 70));
        drop(one);
        assert_eq!((connection_state(), connections()), (50, 1));
        drop(two);
        assert_eq!((connection_state(), connections()), (0, 0));
    }
}
