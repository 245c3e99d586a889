//! Fixes for the inspection in a waypoint.

use super::template::{MAIN_INTERNAL, fix};
use super::values::number;
use super::workload::Workload;
use crate::findings::Fix;

impl Workload {
    /// `also`: what the label alone does not end.
    pub(in super::super) fn waypoint_for_services(&self, also: Option<&str>) -> Fix {
        let (name, namespace) = (self.gateway.as_deref().unwrap_or("WAYPOINT"), self.namespace("NAMESPACE"));
        let what = match also {
            None => format!(
                "Run kubectl label gateways.gateway.networking.k8s.io {name} -n {namespace} istio.io/waypoint-for=service --overwrite"
            ),
            Some(also) => format!(
                "Set the label istio.io/waypoint-for=service on the Gateway {namespace}/{name}, and {also}. One of them is not enough"
            ),
        };
        Fix::advice(
            what,
            "connections to the pods' own addresses no longer pass the waypoint, so its policies do not apply to them.",
        )
    }

    /// Excludes the port from the inspection.
    pub(in super::super) fn main_internal(&self, port: u16) -> Fix {
        let next = u32::from(port).saturating_add(1).to_string();
        let mut values = number(10_000, port);
        values.push(("10001", next));
        values.push(("name: waypoint", format!("name: {}", self.gateway.as_deref().unwrap_or("waypoint"))));
        values.push(("namespace: db", format!("namespace: {}", self.namespace("db"))));
        fix(
            format!("Exclude port {port} from the waypoint's inspection by an EnvoyFilter"),
            "Istio does not support EnvoyFilters for waypoints. HTTP Services on the port stay HTTP, but connections to a workload's \
             own address on it are raw TCP.",
            &[(&MAIN_INTERNAL, &values)],
        )
    }
}
