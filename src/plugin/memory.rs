//! The VM's linear memory. It is the one thing that belongs to the VM and not to a plugin: Envoy puts
//! all plugins with the same module and `vm_id` into one VM, and only one of them may count it.

use std::cell::Cell;

thread_local! {
    static VM: Cell<Vm> = const { Cell::new(Vm { plugins: 0, reported: 0 }) };
}

/// Sizes are in bytes.
#[derive(Clone, Copy)]
struct Vm {
    plugins: u32,
    /// What the plugins of this VM have told so far.
    reported: i64,
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
        let mut vm = Vm { plugins: 0, reported: 0 };
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
}
