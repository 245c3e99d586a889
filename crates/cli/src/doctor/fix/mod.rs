//! Fixes: the files of `istio/` with the user's own address, port, namespace and labels, each with its trade-off.

mod headless;
mod inbound;
mod install;
mod outbound;
mod template;
mod values;
mod waypoint;
mod workload;

pub(super) use inbound::{send, service_port_tcp};
pub(super) use install::extension;
pub(super) use template::is_name;
pub(super) use workload::{ServicePort, Workload};
