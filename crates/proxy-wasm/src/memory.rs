//! Linear memory of the VM. It belongs to the VM and not to a plugin, because Envoy puts all plugins with the same module and
//! `vm_id` into one VM. Their gauges are summed, so only one plugin reports each byte.

use std::cell::Cell;

thread_local! {
    static VM: Cell<Vm> = const { Cell::new(Vm { plugins: 0, reported: 0 }) };
}

#[derive(Clone, Copy)]
struct Vm {
    plugins: u32,
    /// Number of bytes that the plugins of this VM have reported so far.
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

/// One plugin's share in the reports of the VM's memory.
#[derive(Debug)]
pub(crate) struct VmMemory(());

impl VmMemory {
    /// Counts a plugin that starts.
    pub(crate) fn new() -> Self {
        with_vm(Vm::begin);
        Self(())
    }

    /// Returns the change of the memory in bytes since the last call by a plugin of this VM.
    pub(crate) fn change(&self) -> i64 {
        with_vm(|vm| vm.change(linear_memory()))
    }

    /// Ends the plugin. Returns the change that it reports last. The last plugin of the VM subtracts all of the memory.
    pub(crate) fn end(self) -> i64 {
        with_vm(Vm::end)
    }
}

fn with_vm<T>(act: impl FnOnce(&mut Vm) -> T) -> T {
    VM.with(|cell| {
        let mut vm = cell.get();
        let result = act(&mut vm);
        cell.set(vm);
        result
    })
}

/// Returns the size of the linear memory in bytes.
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
    fn plugins_of_one_vm_report_its_memory_once_and_the_last_subtracts_it() {
        let mut vm = Vm { plugins: 0, reported: 0 };
        vm.begin();
        assert_eq!(vm.change(1000), 1000);
        vm.begin();
        assert_eq!(vm.change(1000), 0, "another plugin has already reported it");
        assert_eq!(vm.change(1500), 500);
        assert_eq!(vm.end(), 0, "the other plugin still runs");
        assert_eq!(vm.change(1600), 100);
        assert_eq!(vm.end(), -1600);
        vm.begin();
        assert_eq!(
            vm.change(1700),
            1700,
            "a plugin that starts after all others have ended reports all of it"
        );
    }
}
