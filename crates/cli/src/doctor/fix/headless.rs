//! Fixes for the pods of a headless Service that share a listener with an HTTP Service.

use std::net::IpAddr;

use super::template::{PODS_ENTRY, fix};
use super::values::{address, name_of, number};
use super::workload::Workload;
use crate::findings::Fix;

impl Workload {
    /// Advice that lasts: the setting, and a Service for each pod.
    pub(in super::super) fn without_merged_listeners() -> Vec<Fix> {
        vec![
            Fix::advice(
                "Turn off PILOT_ENABLE_HEADLESS_FILTER_CHAIN_LISTENER in istiod, so that each pod has a listener of its own",
                "proxies have one listener more for each pod of a headless Service.",
            ),
            Fix::advice(
                "Give each pod a Service with an address of its own, as in istio/scenarios/headless/service.yaml, and connect by its \
                 name",
                "clients have to use other names. Connections to the pods' own addresses hang as before.",
            ),
        ]
    }

    pub(in super::super) fn pods_entry(&self, ip: IpAddr, port: u16) -> Fix {
        let own = [("mysql-pods", format!("{}-pod", name_of(ip, port)))];
        let values = [self.client(), address(ip), number(10_000, port), own.to_vec()].concat();
        fix(
            "Create a ServiceEntry with the addresses of all pods",
            "the entry goes stale when a pod restarts with another address, and that pod hangs again. Connections are in plain text, \
             and pods with STRICT refuse them.",
            &[(&PODS_ENTRY, &values)],
        )
        .lowering_security()
    }
}
