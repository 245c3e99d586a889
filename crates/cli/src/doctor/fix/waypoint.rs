//! Fixes for the inspection in a waypoint.

use super::template::{MAIN_INTERNAL, fix};
use super::values::number;
use super::workload::Workload;
use crate::findings::Fix;

impl Workload {
    pub(in super::super) fn waypoint_for_services(&self) -> Fix {
        let (name, namespace) = (self.gateway.as_deref().unwrap_or("WAYPOINT"), self.namespace("NAMESPACE"));
        Fix::advice(
            format!(
                "Run kubectl label gateways.gateway.networking.k8s.io {name} -n {namespace} istio.io/waypoint-for=service --overwrite"
            ),
            "connections to the pods' own addresses no longer pass the waypoint, so its policies do not apply to them. Ports without \
             a declared protocol are still inspected.",
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
