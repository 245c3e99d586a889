//! The floor: a filter that reads both directions as Firstword must, and ignores the bytes. It makes one read for the first
//! 16 KiB of a callback, and one for each further 64 KiB. Its cost is the minimum for every filter that reads the bytes,
//! because it is the cost of Envoy, V8 and the SDK alone.

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, RootContext, StreamContext};
use proxy_wasm::types::{Action, BufferType, ContextType};

const FIRST_READ: usize = 16 << 10;
const NEXT_READ: usize = 64 << 10;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root));
}}

struct Root;

impl Context for Root {}

impl RootContext for Root {
    fn create_stream_context(&self, _: u32) -> Option<Box<dyn StreamContext>> {
        Some(Box::new(Stream))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::StreamContext)
    }
}

struct Stream;

impl Context for Stream {}

impl StreamContext for Stream {
    fn on_downstream_data(&mut self, size: usize, _: bool) -> Action {
        read(BufferType::DownstreamData, size)
    }

    fn on_upstream_data(&mut self, size: usize, _: bool) -> Action {
        read(BufferType::UpstreamData, size)
    }
}

fn read(buffer: BufferType, size: usize) -> Action {
    let (mut at, mut max) = (0, FIRST_READ);
    while at < size {
        let Ok(Some(bytes)) = hostcalls::get_buffer(buffer, at, max.min(size - at)) else { break };
        at += bytes.len();
        max = NEXT_READ;
    }
    Action::Continue
}
