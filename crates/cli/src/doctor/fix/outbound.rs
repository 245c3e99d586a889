//! Fixes for connections from the pod of the proxy.

use std::net::IpAddr;

use super::template::{DNS_NAME, DYNAMIC_DNS, LISTENER_ADD, SERVICE_ENTRY, SIDECAR, SNIFF_TIMEOUT, fix};
use super::values::{address, name_of, number};
use super::workload::Workload;
use crate::findings::Fix;

impl Workload {
    /// A listener for one address. `changes`: whether the address is known to come from DNS.
    pub(in super::super) fn service_entry(&self, ip: IpAddr, port: u16, changes: bool) -> Fix {
        let own = [("mysql-ip-2", name_of(ip, port))];
        let values = [self.client(), address(ip), number(10_000, port), own.to_vec()].concat();
        let trade_off = if changes {
            "this address will change, because it comes from DNS, and then the connections hang again. Use the host's name instead."
        } else {
            "the HTTP Service stays HTTP, and no open connection is closed. If the address comes from DNS (RDS, Aurora, Cloud \
             SQL), it will change: then use the host's name."
        };
        fix(
            format!("Create a ServiceEntry for exactly {ip}:{port}, a listener in which nothing waits"),
            trade_off,
            &[(&SERVICE_ENTRY, &values)],
        )
    }

    /// A listener for a host, by an address that Istio chooses.
    pub(in super::super) fn dns_name(&self, host: &str, port: u16) -> Fix {
        let name: String =
            host.chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '-' }).collect();
        let values = [
            self.client(),
            number(10_000, port),
            vec![
                ("orders.example.com", host.to_owned()),
                (
                    "name: orders-example-com",
                    format!("name: {}", name.trim_matches('-').to_ascii_lowercase()),
                ),
                (
                    "firstword-dns",
                    format!(
                        "firstword-dns-{}",
                        self.label("app: app").split(": ").nth(1).unwrap_or("app").trim_matches('"')
                    ),
                ),
            ],
        ]
        .concat();
        fix(
            format!("Create a ServiceEntry for the name {host}, with Istio's DNS proxying{}", self.unknown()),
            "the pods restart once. Their DNS requests go through the sidecar, and clients must connect by this name.",
            &[(&DNS_NAME, &values)],
        )
    }

    /// Istio's DNS proxying for the pods, without another ServiceEntry.
    pub(in super::super) fn dns_proxying(&self) -> Fix {
        let mut fix = fix(
            format!("Turn on Istio's DNS proxying with automatic addresses for the pods{}", self.unknown()),
            "the pods restart once. Their DNS requests go through the sidecar, and clients must connect by name.",
            &[(&DNS_NAME, &self.client())],
        );
        let proxy_config = fix.yaml.split("---\n").nth(1).unwrap_or_default().to_owned();
        fix.yaml = proxy_config;
        fix
    }

    pub(in super::super) fn own_ports() -> Fix {
        Fix::advice("Give each ServiceEntry a port number of its own", "clients have to use the new numbers.")
    }

    pub(in super::super) fn listener_add(&self, ip: IpAddr, port: u16) -> Fix {
        let name = ("firstword-listener-add", format!("firstword-{}", name_of(ip, port)));
        let values = [self.client(), address(ip), number(10_000, port), vec![name]].concat();
        let mut fix = fix(
            format!(
                "If you may not create a ServiceEntry, add the listener by an EnvoyFilter{}",
                self.unknown()
            ),
            "Istio's telemetry does not cover these connections, and it works for this address only.",
            &[(&LISTENER_ADD, &values)],
        );
        // The file shows a second address.
        let second = |line: &&str| !line.contains("additional_addresses:") && !line.contains("55.108.108.9");
        fix.yaml = fix.yaml.lines().filter(second).map(|line| format!("{line}\n")).collect();
        fix
    }

    pub(in super::super) fn sidecar(&self) -> Fix {
        fix(
            format!(
                "If the pods do not call the HTTP Service on that port, limit the hosts that their sidecars know{}",
                self.unknown()
            ),
            "calls to every Service that the manifest does not list pass as raw TCP without mutual TLS, and STRICT servers \
             refuse them. List each namespace that these pods call before you apply it.",
            &[(&SIDECAR, &self.client())],
        )
        .lowering_security()
    }

    /// Advice to the owner of the HTTP Service.
    pub(in super::super) fn other_port(services: &[String], port: u16) -> Fix {
        let of = if services.is_empty() { "the HTTP Service".to_owned() } else { services.join(" and ") };
        Fix::advice(
            format!("Give {of} another port number than {port}, if you own it"),
            "its clients have to use the new number.",
        )
    }

    pub(in super::super) fn sniff_timeout(&self, port: u16) -> Fix {
        let name = ("firstword-sniff-timeout", format!("firstword-sniff-timeout-{port}"));
        let values = [self.client(), number(10_000, port), vec![name]].concat();
        fix(
            format!("Let Envoy wait for 50 ms and then go on{}", self.unknown()),
            "each database connection takes 50 ms longer. An HTTP client on the port that is slower becomes raw TCP, without \
             routes and without mutual TLS.",
            &[(&SNIFF_TIMEOUT, &values)],
        )
        .lowering_security()
        .only_as_last_resort()
    }

    pub(in super::super) fn dynamic_dns(&self, port: u16) -> Fix {
        let next = u32::from(port).saturating_add(1).to_string();
        let values = [self.client(), number(10_000, port), vec![("10001", next)]].concat();
        fix(
            format!("Exclude port {port} from the inspection{}", self.unknown()),
            "HTTP on this port is raw TCP if no Service has the port. All outbound connections without a listener of their own \
             are closed once, after the drain time.",
            &[(&DYNAMIC_DNS, &values)],
        )
    }
}
