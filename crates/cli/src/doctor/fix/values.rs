//! Values that replace those of the files.

use std::net::IpAddr;

use super::workload::ServicePort;

pub(super) fn service_port(service: &ServicePort) -> Vec<(&'static str, String)> {
    vec![
        ("name: mysql", format!("name: {}", service.name)),
        ("namespace: db", format!("namespace: {}", service.namespace)),
        ("3307", service.port.to_string()),
    ]
}

pub(super) fn number(stands_for: u16, port: u16) -> Vec<(&'static str, String)> {
    vec![(if stands_for == 3306 { "3306" } else { "10000" }, port.to_string())]
}

pub(super) fn address(ip: IpAddr) -> Vec<(&'static str, String)> {
    // An IPv6 address alone needs quotes, because YAML gives colons a meaning.
    let alone = if ip.is_ipv6() { format!("\"{ip}\"") } else { ip.to_string() };
    vec![
        ("55.108.108.2", alone),
        ("55.108.108.2_", format!("{ip}_")),
        ("\"55.108.108.2\"", format!("\"{ip}\"")),
    ]
}

/// The name of a resource for an address and port.
pub(super) fn name_of(ip: IpAddr, port: u16) -> String {
    let ip: String =
        ip.to_string().chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '-' }).collect();
    format!("mysql-{ip}-{port}")
}
