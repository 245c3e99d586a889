//! The VM's linear memory. It is the one thing that belongs to the VM and not to a plugin: Envoy puts
//! all plugins with the same module and `vm_id` into one VM, and only one of them may count it.

use std::cell::Cell;

thread_local! {
    static VM: Cell<Vm> = const { Cell::new(Vm { plugins: 0, reported: 0 }) };
}

#[derive(Clone, Copy)]
struct Vm {
    plugins: u32,
    /// Bytes that the plugins of this VM have told so far.
    reported: i64,
}

/// A plugin's share in telling the memory of its VM.
#[derive(Debug)]
pub(super) struct VmMemory(());

impl VmMemory {
    pub(super) fn new() -> Self {
        VM.with(|vm| vm.set(Vm { plugins: vm.get().plugins.saturating_add(1), ..vm.get() }));
        Self(())
    }

    /// By how many bytes the memory changed since one of the VM's plugins last asked.
    pub(super) fn change(&self) -> i64 {
        VM.with(|vm| {
            let size = linear_memory();
            let change = size.saturating_sub(vm.get().reported);
            vm.set(Vm { reported: size, ..vm.get() });
            change
        })
    }

    /// What is to be taken back because this plugin ends: all of it, if it is the VM's last one.
    pub(super) fn end(self) -> i64 {
        VM.with(|vm| {
            let Vm { plugins, reported } = vm.get();
            let plugins = plugins.saturating_sub(1);
            let kept = if plugins == 0 { 0 } else { reported };
            vm.set(Vm { plugins, reported: kept });
            kept.saturating_sub(reported)
        })
    }
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
